"""The job of `benchmark.worker` that predicts disparity with exported files: engines and precisions beside torch."""

import os

import numpy as np
import torch

from benchmark.plain import depth_network
from checkpointing.folders import DepthNetwork, load_depth_network
from cpu.allocator import keep_freed_memory
from exporting import checks, precision
from exporting.network import ExportedNetwork, Form
from exporting.onnx_file import onnx_model
from inference.folded import FoldedDepthNetwork
from layers import disp_to_depth
from networks import DepthDecoder, LiteMono
from system import files

FORMS = {  # name of a file: (per-pixel networks, attention)
    "float32": ("convolution", "channels"),
    "matmul": ("matmul", "channels"),
    "tokens": ("convolution", "tokens"),
}
VERSIONS = ("plain", "folded", "onnxruntime float32", "onnxruntime float16", "onnxruntime int8",
            "openvino float32", "openvino bfloat16", "openvino int8")  # fmt: skip
FORM_VERSIONS = tuple(f"{engine} {form}" for form in ("matmul", "tokens") for engine in ("onnxruntime", "openvino"))


def networks(model, height, width, weights=None):
    """Return the `DepthNetwork` of a folder at a size, or an untrained one whose blocks all count."""
    if weights:
        return load_depth_network(weights, model)._replace(height=height, width=width)
    torch.manual_seed(0)
    encoder = LiteMono(model, height, width, layer_scale_init_value=0.1).eval()
    return DepthNetwork(encoder, DepthDecoder(encoder.num_ch_enc).eval(), height, width, encoder.dilations)


def write_models(folder, network, pixels, all_forms=False):
    """Write the ONNX files that the versions run: the float32 forms, float16, int8 calibrated on `pixels`."""
    made = {}
    for name, (pixel_networks, attention) in FORMS.items():
        if name == "float32" or all_forms:
            form = Form((network.height, network.width), pixel_networks=pixel_networks, attention=attention)
            made[name] = onnx_model(ExportedNetwork(network, form).eval(), form)
    form = Form((network.height, network.width))
    made["float16"] = precision.to_float16(made["float32"])
    made["int8"] = precision.Int8(made["float32"], [checks.as_input(form, each).numpy() for each in pixels]).quantised()
    for name, model in made.items():
        files.write_bytes(os.path.join(folder, f"{name}.onnx"), model.SerializeToString())
    return {name: os.path.getsize(os.path.join(folder, f"{name}.onnx")) for name in made}


def predictor(version, network, folder, threads):
    """Return the function image (1, 3, H, W) float32 array -> scaled disparity of a version."""
    if version in ("plain", "folded"):
        encoder, decoder = network.encoder, network.decoder
        folded = FoldedDepthNetwork(encoder, decoder).eval()

        @torch.inference_mode()
        def run(image):
            image = torch.from_numpy(image)
            plain = version == "plain"
            disparity = depth_network.decode(decoder, depth_network.encode(encoder, image))["disp", 0] if plain else (
                folded(image)
            )  # fmt: skip
            return disp_to_depth(disparity, *network.depth_range)[0].numpy()

        return run
    engine, kind = version.split()
    name = "float32" if kind == "bfloat16" else kind
    path = os.path.join(folder, f"{name}.onnx")
    if engine == "openvino":
        return checks.openvino_function(path, "bf16" if kind == "bfloat16" else "f32", threads)
    with open(path, "rb") as file:
        return checks.onnxruntime_function(file.read(), threads)


def make(version, model, height, width, weights, folder):
    """Return the function that predicts one image, and the device."""
    if version == "folded":
        keep_freed_memory()
    network = networks(model, height, width, weights)
    run = predictor(version, network, folder, torch.get_num_threads())
    image = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    return lambda: run(image), torch.device("cpu")
