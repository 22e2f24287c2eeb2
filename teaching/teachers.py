"""Networks that label images: weights of our own, ONNX files of export_onnx.py, depth models of Hugging Face.

A teacher has `name`, `kind` ("scale": depth up to a factor; "metric": depth in metres; "affine": disparity up to a
factor and a shift) and `predict(image)`: a PIL image in RGB to (h, w) float32 of that kind, at the network's own size.
"""

import os

import numpy as np
import torch

from checkpointing.published import WEIGHTS
from inference.images import network_values
from inference.onnx_runner import OnnxRunner
from inference.predictor import Predictor
from system.errors import UserError

METRIC_MODELS = ("zoedepth", "glpn", "depth_pro")  # model types whose depth is in metres; the others give disparity
KINDS_OF_TEACHER = "a weights folder or published name, an .onnx file, or a Hugging Face model or its folder"


def make_teacher(name, device):
    """Return the teacher behind a name.

    Args:
        name: a weights folder, a published name, a file that ends in .onnx, or a Hugging Face folder or owner/name.
        device: torch device; ONNX files run on the CPU.

    Raises:
        UserError: there is nothing of this name, or a package is missing.
    """
    path = os.path.expanduser(name)
    if path.lower().endswith(".onnx"):
        return OnnxTeacher(path)
    if name in WEIGHTS or (os.path.isdir(path) and not os.path.isfile(os.path.join(path, "config.json"))):
        return WeightsTeacher(name, device)
    if os.path.isdir(path) or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        return HuggingFaceTeacher(path if os.path.isdir(path) else name, device)
    raise UserError("no such teacher", name, f"give {KINDS_OF_TEACHER}")


class WeightsTeacher:
    """A Lite-Mono of our own."""

    kind = "scale"

    def __init__(self, name, device):
        self.name, self.predictor = name, Predictor(name, device=device)

    def predict(self, image):
        """Return depth, (H, W) float32, up to a factor."""
        given = network_values(image, self.predictor.height, self.predictor.width)
        return 1 / self.predictor.scaled_disparity(given)[0, 0]


class OnnxTeacher:
    """An ONNX file as export_onnx.py writes it."""

    kind = "scale"

    def __init__(self, path):
        self.name, self.runner = path, OnnxRunner(path)

    def predict(self, image):
        """Return depth, (H, W) float32, up to a factor."""
        return 1 / self.runner.predict(image)[0, 0]


class HuggingFaceTeacher:
    """A depth model of the transformers library, by its name on the hub or a folder that holds it.

    Whether it gives metres is read from its configuration; all others are taken to give disparity, as DPT, MiDaS
    and Depth Anything do.
    """

    def __init__(self, name, device):
        auto = _transformers()
        self.name, self.device = name, device
        try:
            self.processor = auto.AutoImageProcessor.from_pretrained(name)
            self.model = auto.AutoModelForDepthEstimation.from_pretrained(name).eval().to(device)
        except (OSError, ValueError, KeyError, ImportError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError("not a depth model of Hugging Face that can be had", f"{name}: {said[0][:200]}",
                            "check the name and the connection, or give the model's folder") from error  # fmt: skip
        config = self.model.config
        metric = config.model_type in METRIC_MODELS or getattr(config, "depth_estimation_type", None) == "metric"
        self.kind = "metric" if metric else "affine"

    @torch.inference_mode()
    def predict(self, image):
        """Return what the model predicts, (h, w) float32: disparity up to a factor and a shift, or metres."""
        given = self.processor(images=image, return_tensors="pt").to(self.device)
        predicted = self.model(**given).predicted_depth.float().cpu().numpy()
        predicted = predicted.reshape(predicted.shape[-2:])
        if not np.isfinite(predicted).all():
            raise UserError("the teacher's prediction is not finite", self.name, "choose another teacher")
        return predicted


def _transformers():
    try:
        import transformers
    except ImportError:
        raise UserError("a package is missing", "transformers", "run pip install -r requirements-teacher.txt") from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
