"""What exists only because networks are also trained on CPUs. Everything here has a plain twin with the same numbers.

LITE_MONO_PLAIN switches to the twins: all of them (1), or those named in it, separated by commas:
per_sample, photometric_error, pixel_network, allocator.
"""

import os

SWITCH = "LITE_MONO_PLAIN"
WAYS = ("per_sample", "photometric_error", "pixel_network", "allocator")


def is_wanted(way):
    """Return whether the environment leaves the fast way `way`, of WAYS, on."""
    off = os.environ.get(SWITCH, "").split(",")
    return way not in off and "1" not in off


def training_on_cpu(tensor, way):
    """Return whether work on `tensor` is done by the fast way for CPUs: float32 training there, outside torch.compile.

    A GPU wants large kernels and fewer of them; autocast and torch.compile look after memory by themselves.
    """
    import torch

    if torch.compiler.is_compiling() or tensor.device.type != "cpu":
        return False
    return torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and is_wanted(way)
