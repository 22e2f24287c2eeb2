"""--compile: what runs compiled, and where the same code runs as it is written."""

import contextlib
import logging

import torch

from training.run.precision import compile_options

log = logging.getLogger(__name__)


def compiled(function, wanted, device):
    """Return the function compiled for a device, where that is `wanted`, else as it is."""
    return torch.compile(function, **compile_options(device)) if wanted else function


def compile_network(network, device):
    """Compile a module in place."""
    if device.type == "cpu":
        log.warning("--compile on a CPU: the first step takes minutes, on all cores")
    network.compile(**compile_options(device))


def uncompiled(where=True):
    """Return a context in which, where that is asked, nothing compiled runs and nothing is compiled anew."""
    return torch.compiler.set_stance("force_eager") if where else contextlib.nullcontext()
