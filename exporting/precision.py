"""Files in float16 and int8: what is converted, what stays in float32, and how far the output moves.

int8 is static and written with QuantizeLinear and DequantizeLinear around the convolutions: 8-bit weights with a scale
per output channel, 8-bit activations with one scale each, found from the user's images. Every group of convolutions is
first measured alone; those that move the disparity most stay in float32 until the whole is within the limit.
"""

import contextlib
import copy
import io
import os
import re
import tempfile
import time
from typing import NamedTuple

import numpy as np

from exporting import checks
from exporting.onnx_file import NAME, module_of
from exporting.packages import Quiet, need

FLOAT16_OPERATORS = {"Conv", "Gelu", "Elu", "Resize", "Pad", "Concat", "AveragePool", "Sigmoid"}


class Sensitivity(NamedTuple):
    """A group of convolutions, and the mean relative change of depth where it alone is in int8."""

    group: str
    convolutions: int
    abs_rel: float


def to_float16(model):
    """Return the model with weights and feature maps in float16; attention, input and output stay in float32."""
    need("onnx", "onnxruntime")
    from onnxruntime.transformers.float16 import convert_float_to_float16

    attention = [node.name for node in model.graph.node if not _may_be_half(node)]
    with Quiet():
        return convert_float_to_float16(copy.deepcopy(model), keep_io_types=True, node_block_list=attention)


def _may_be_half(node):
    """Sums over thousands of pixels overflow in float16, and a disparity needs more than its 11 bits at the end."""
    residual = node.op_type == "Add" and re.fullmatch(r"stages\.\d+\.\d+", module_of(node))
    return node.op_type in FLOAT16_OPERATORS or bool(residual)


def group_of(node):
    """Return the name of the group that a convolution is in: a block of the encoder, or a block of the decoder."""
    words = module_of(node).split(".")
    return ".".join(words[: 3 if words[0] == "stages" else 2])


def groups(model):
    """Return {group: [names of its convolutions]} in the order of the graph."""
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            found.setdefault(group_of(node), []).append(node.name)
    return found


class Int8:
    """A float32 model, calibrated: makes the int8 models in which given convolutions are quantised.

    Args:
        model: an onnx ModelProto, float32.
        images: numpy inputs of the model to calibrate with.
    """

    def __init__(self, model, images):
        need("onnx", "onnxruntime")
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import create_calibrator

        self.model, self.groups, self._types = model, groups(model), QuantType
        # The calibrator prints a line an image.
        with tempfile.TemporaryDirectory() as folder, Quiet(), contextlib.redirect_stdout(io.StringIO()):
            path = os.path.join(folder, "model.onnx")
            with open(path, "wb") as file:
                file.write(model.SerializeToString())
            calibrator = create_calibrator(
                path, ["Conv"], os.path.join(folder, "calibration.onnx"),
                calibrate_method=CalibrationMethod.Entropy,
            )  # fmt: skip
            for image in images:
                calibrator.collect_data(_Reader([image]))
            self.ranges = calibrator.compute_data()
            del calibrator

    def quantised(self, kept=()):
        """Return the int8 ModelProto; the convolutions of the groups `kept` stay in float32."""
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        wanted = [name for group, names in self.groups.items() if group not in kept for name in names]
        with Quiet():
            quantiser = QDQQuantizer(
                copy.deepcopy(self.model), per_channel=True, reduce_range=False, weight_qType=self._types.QInt8,
                activation_qType=self._types.QUInt8, tensors_range=self.ranges, nodes_to_quantize=wanted,
                nodes_to_exclude=[], op_types_to_quantize=["Conv"], extra_options={"QDQKeepRemovableActivations": True},
            )  # fmt: skip
            quantiser.quantize_model()
        return quantiser.model.model

    def sensitivities(self, form, trials, wanted, advance=lambda: None):
        """Return the `Sensitivity` of every group, the most harmful first."""
        found = []
        for group, names in self.groups.items():
            alone = self.quantised([each for each in self.groups if each != group])
            moved = checks.compare(checks.onnxruntime_function(alone), form, trials, wanted)
            found.append(Sensitivity(group, len(names), moved.abs_rel))
            advance()
        return sorted(found, key=lambda each: -each.abs_rel)

    def within(self, limit, sensitivities, form, trials, wanted):
        """Return (model, groups kept in float32, difference): as few kept as brings the change of depth to the limit.

        Where no number of groups does, the best model found.
        """
        best = None
        for count in _growing(len(sensitivities)):
            kept = [each.group for each in sensitivities[:count]]
            model = self.quantised(kept)
            moved = checks.compare(checks.onnxruntime_function(model), form, trials, wanted)
            if best is None or moved.abs_rel < best[2].abs_rel:
                best = model, kept, moved
            if moved.abs_rel <= limit:
                break
        return best


def _growing(count):
    """Numbers of groups to keep in float32: every one at first, then in larger steps, up to half of them."""
    number = 0
    while number <= count // 2:
        yield number
        number += max(1, number // 3)


class _Reader:
    """Gives a calibrator its images."""

    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {NAME: image}


def sensitivity_table(sensitivities, kept):
    """Return the table of groups, the most harmful first."""
    lines = [f"{'in int8 alone':<22}{'convolutions':>13}{'change of depth':>17}  stays in"]
    for each in sensitivities:
        stays = "float32" if each.group in kept else "int8"
        lines.append(f"{each.group:<22}{each.convolutions:>13}{each.abs_rel:>17.5f}  {stays}")
    return "\n".join(lines)


def milliseconds(run, image, rounds=10):
    """Return the median time of a function of one image."""
    taken = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        run(image)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[2:])) * 1000
