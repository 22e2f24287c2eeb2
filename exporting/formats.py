"""The kinds of file: each as bytes, checked by the engine that will run it before anything is written.

A format gives {ending: bytes} and the function image -> output of what those bytes hold.
"""

import contextlib
import io
import json
import os
import tempfile

import torch

from exporting import checks
from exporting.onnx_file import examples, exported_program
from exporting.packages import Quiet, need
from system import files

ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "torchscript": ".pt"}


def onnx_files(model):
    """Return ({".onnx": bytes}, function on onnxruntime) of a ModelProto."""
    content = model.SerializeToString()
    return {".onnx": content}, checks.onnxruntime_function(content)


def openvino_files(model, precision, facts):
    """Return ({".xml": bytes, ".bin": bytes}, function on OpenVINO) of a ModelProto.

    float16 stores the weights in half; the engine computes as its device likes.
    """
    openvino = need("openvino")
    with tempfile.TemporaryDirectory() as folder, Quiet():
        made = openvino.Core().read_model(model=model.SerializeToString())
        for key, value in facts.items():
            made.set_rt_info(value, ["lite_mono", key])
        path = os.path.join(folder, "model.xml")
        openvino.save_model(made, path, compress_to_fp16=precision == "float16")
        del made
        run = checks.openvino_function(path)
        content = {ending: _read(os.path.join(folder, f"model{ending}")) for ending in (".bin", ".xml")}
    return content, run


def torch_files(network, form, facts):
    """Return ({".pt2": bytes}, function) of the `torch.export` program, the facts in its extra file "facts.json"."""
    buffer = io.BytesIO()
    program = exported_program(network, form)
    with Quiet():
        torch.export.save(program, buffer, extra_files={"facts.json": json.dumps(facts)})
        content = buffer.getvalue()
        loaded = torch.export.load(io.BytesIO(content)).module()
    return {".pt2": content}, lambda image: loaded(torch.from_numpy(image)).detach().numpy()


def torchscript_files(network, form, facts):
    """Return ({".pt": bytes}, function) of the traced network; the facts are in its extra file "facts.json"."""
    buffer = io.BytesIO()
    with Quiet(), torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(network.eval(), examples(form), check_trace=False))
        torch.jit.save(traced, buffer, _extra_files={"facts.json": json.dumps(facts)})
        content = buffer.getvalue()
        loaded = torch.jit.load(io.BytesIO(content))
    return {".pt": content}, lambda image: loaded(torch.from_numpy(image)).detach().numpy()


def write(out, content):
    """Write {ending: bytes} beside each other under the name of `out`, each file whole or not at all."""
    stem = os.path.splitext(out)[0]
    written = []
    try:
        for ending, data in content.items():
            files.write_bytes(stem + ending, data)
            written.append(stem + ending)
    except BaseException:
        for path in written:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    return written


def _read(path):
    with open(path, "rb") as file:
        return file.read()
