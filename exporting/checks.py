"""What an exported file must give: the disparity of the networks as they are trained, on random and on real images."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from exporting.onnx_file import NAME, example_images
from exporting.packages import need
from inference.predictor import plain_disparity
from layers import disp_to_depth
from system.errors import UserError

TOLERANCE = 1e-4  # largest relative difference of a float32 file
REAL_IMAGES = 4  # of the user's folder, at most


class Difference(NamedTuple):
    """How far an output lies from the one wanted: the largest relative and absolute difference, the mean absolute one.

    abs_rel: mean of |depth - wanted depth| / wanted depth.
    """

    relative: float
    largest: float
    mean: float
    abs_rel: float


@torch.inference_mode()
def expected(network, form, images):
    """Return what the networks of a `DepthNetwork`, unfolded, give for images of the form: (B, 1, H, W) float32."""
    if form.given == "uint8":
        images = images.permute(0, 3, 1, 2) / 255
    if form.resize:
        images = F.interpolate(images, form.size, mode="bilinear", align_corners=False, antialias=True)
    disparity, depth = disp_to_depth(plain_disparity(network.encoder, network.decoder)(images), *network.depth_range)
    return (depth * form.metric_scale if form.depth else disparity / form.metric_scale).numpy()


def trial_images(form, pixels=()):
    """Return the list of images to check with: random ones, of every size the form takes, then the user's.

    Args:
        form: a `Form`.
        pixels: (H, W, 3) uint8 arrays of the form's size.
    """
    height, width = form.size
    sizes = [form.size]
    if form.any_size:
        sizes.append((height + 32, width + 64))
    if form.resize:
        sizes.append((height + height // 2 + 3, 2 * width + 5))
    trials = [example_images(form, 2 if form.any_batch else 1, size, seed) for seed, size in enumerate(sizes, 1)]
    return trials + [as_input(form, each) for each in pixels]


def as_input(form, pixels):
    """Return (H, W, 3) uint8 pixels as the form takes them, a torch tensor with one image."""
    values = torch.from_numpy(np.ascontiguousarray(pixels))[None]
    return values if form.given == "uint8" else values.permute(0, 3, 1, 2).contiguous().float() / 255


def difference(found, wanted, is_depth=False):
    """Return the `Difference` of two disparity maps (or depth maps, whose disparity is 1 / depth).

    Raises:
        ValueError: a value is not finite, or the shapes differ.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"the output is {found.shape} instead of {wanted.shape}")
    if not np.isfinite(found).all():
        raise ValueError("the output is not finite")
    found, wanted = (1 / each if is_depth else each for each in (found.astype(np.float64), wanted.astype(np.float64)))
    gap = np.abs(found - wanted)
    abs_rel = np.abs(1 / np.maximum(found, 1e-6) - 1 / wanted) * wanted
    return Difference(float((gap / wanted).max()), float(gap.max()), float(gap.mean()), float(abs_rel.mean()))


def worst(differences):
    """Return the `Difference` of several images: the largest of the largest, the mean of the means."""
    relative, largest, mean, abs_rel = zip(*differences, strict=True)
    return Difference(max(relative), max(largest), float(np.mean(mean)), float(np.mean(abs_rel)))


def compare(run, form, trials, wanted):
    """Return the `Difference` of a function of one numpy image from the outputs wanted for the trial images."""
    pairs = zip(trials, wanted, strict=True)
    return worst([difference(run(image.numpy()), each, form.depth) for image, each in pairs])


def demand(run, form, trials, wanted, what, tolerance=TOLERANCE):
    """As `compare`; refuse what lies too far away.

    Raises:
        UserError: the largest relative difference is above the tolerance, or the engine fails.
    """
    fix = "nothing was written; choose another --opset or --format, and report it with the model's name"
    try:
        found = compare(run, form, trials, wanted)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise UserError(
            "the exported file fails its check", f"{what}: {str(error).strip().splitlines()[0]}", fix
        ) from error
    if not found.relative <= tolerance:
        which = f"{what}: relative difference {found.relative:.1e}, {tolerance:.0e} is allowed"
        raise UserError("the exported file fails its check", which, fix)
    return found


def onnxruntime_function(model, threads=0):
    """Return the function image -> output of an ONNX model (bytes or a ModelProto) on onnxruntime's CPU kernels."""
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {NAME: image})[0]


def openvino_function(model, precision="f32", threads=0):
    """Return the function image -> output of an OpenVINO model (or the path of one) on the CPU."""
    openvino = need("openvino")
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda image: next(iter(request.infer({0: image}).values())).copy()
