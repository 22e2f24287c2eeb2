"""Do the networks and a training step on this device give the figures of the published code?

The figures lie in tests/reference, computed on a CPU in float32. Bounds allow for the order of sums and for what
cuDNN's kernels do otherwise; a wrong constant or layout is off by far more. TF32 and half precision round on purpose:
of them the loss alone is compared, loosely.
"""

import os

import numpy as np
import torch

from benchmark.gpu.steps import allow_tf32, training
from benchmark.worker import ROOT
from networks import DepthDecoder, LiteMono, PoseDecoder, ResnetEncoder
from tests.reference.seeded_weights import image
from tests.reference.train_step import SMALL, filled, reference_batch

FIGURES = os.path.join(ROOT, "tests", "reference")
# Largest error allowed; relative to the largest value of the figure, of motion absolute.
BOUNDS = {"forward": 1e-4, "motion": 1e-5, "loss": 1e-4, "warped": 1e-3, "gradient norm": 2e-2}
ROUNDED = {"TF32": 1e-2, "bf16": 5e-2, "fp16": 1e-2}  # of the loss
STEPS = {"default": (), "no_automask": ("--disable_automasking",), "v1_multiscale": ("--v1_multiscale",)}
NETWORKS = (("lite-mono", 640, 192), ("lite-mono-tiny", 1024, 320))


def figures(name):
    """Return {name: array} of a file of figures."""
    with np.load(os.path.join(FIGURES, name), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def measure(device, steps=tuple(STEPS), networks=NETWORKS):
    """Compare with every figure.

    Args:
        device: name of a torch device.
        steps: training steps to compare, of STEPS.
        networks: (model, width, height) of the forward passes to compare.

    Returns:
        List of {"figure": name, "error": the largest found, "bound": the largest allowed}.
    """
    on_cuda = torch.device(device).type == "cuda"
    allow_tf32(False)
    found = [_row(f"forward {model} {width}x{height}", _forward(device, model, width, height), BOUNDS["forward"])
             for model, width, height in networks]  # fmt: skip
    found.append(_row("pose network", _motion(device), BOUNDS["motion"]))
    for name in steps:
        found += [_row(f"step {name}: {what}", error, BOUNDS[what]) for what, error in _step(device, name).items()]
    for name, bound in ROUNDED.items() if on_cuda else ():
        flags = () if name == "TF32" else ("--amp", name)
        error = _step(device, "default", flags, tf32=True)["loss"]
        found.append(_row(f"step default in {name}: loss", error, bound))
    return found


def _row(figure, error, bound):
    return {"figure": figure, "error": float(error), "bound": bound}


def _relative(value, figure):
    error = np.abs(value.detach().float().cpu().numpy() - figure).max() / np.abs(figure).max()
    return float(np.nan_to_num(error, nan=np.inf))


@torch.no_grad()
def _forward(device, model, width, height):
    figure = figures(f"forward_{model}_{width}x{height}.npz")
    encoder = LiteMono(model, height, width)
    decoder = filled(DepthDecoder(encoder.num_ch_enc)).eval().to(device)
    features = filled(encoder).eval().to(device)(torch.from_numpy(image(7, (1, 3, height, width))).to(device))
    outputs, errors = decoder(features), []
    for level in range(3):
        step = 8 // 2**level
        errors.append(_relative(features[level][:, ::8, ::4, ::4], figure[f"feature_{level}"]))
        errors.append(_relative(outputs["disp", level][:, :, ::step, ::step], figure[f"disp_{level}"]))
    return max(errors)


@torch.no_grad()
def _motion(device):
    figure = figures("pose.npz")
    encoder = filled(ResnetEncoder(18, False, 2)).eval().to(device)
    decoder = filled(PoseDecoder(encoder.num_ch_enc, 1, 2)).eval().to(device)
    frames = torch.cat([torch.from_numpy(image(seed, (2, 3, 192, 640))) for seed in (8, 9)], 1).to(device)
    found = dict(zip(("axisangle", "translation"), decoder([encoder(frames)]), strict=True))
    return max(np.abs(value.cpu().numpy() - figure[name]).max() for name, value in found.items())


def _step(device, name, flags=(), tf32=False):
    """Return {what: largest error} of a training step; what: keys of BOUNDS."""
    figure, options = figures(f"train_step_{name}.npz"), ("--drop_path", 0, *STEPS[name], *flags)
    with training(device, "lite-mono", 2, 192, 640, options) as (trainer, _):
        allow_tf32(tf32)
        for network in trainer.models.values():
            filled(network).train()
        outputs, losses = trainer.process_batch(reference_batch())
        losses["loss"].backward()
        norms = {f"{net}/{key}": parameter.grad.norm().item() for net, network in trainer.models.items()
                 for key, parameter in network.named_parameters()}  # fmt: skip
    expected = {key.removeprefix("gradnorm/"): float(figure[key]) for key in figure if key.startswith("gradnorm/")}
    least = SMALL * max(expected.values())
    motions = {frame: outputs["cam_T_cam", 0, frame].detach().cpu().numpy() for frame in (-1, 1)}
    return {
        "loss": max(_relative(losses[key], figure[key]) for key in figure if key.startswith("loss")),
        "motion": max(np.abs(motion - figure[f"cam_T_cam_{frame}"]).max() for frame, motion in motions.items()),
        "warped": max(_relative(outputs["color", frame, 0][:, :, ::8, ::8], figure[f"warped_{frame}"])
                      for frame in (-1, 1)),
        "gradient norm": max(abs(norms[key] - norm) / max(norm, least) for key, norm in expected.items()),
    }  # fmt: skip
