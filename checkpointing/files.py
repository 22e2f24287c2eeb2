"""One .pth file: read without unpickling anything but tensors and plain values, written whole, loaded strictly."""

import errno
import io
import os
import pickle
import struct

import torch

from networks.depth_decoder import DepthDecoder
from networks.lite_mono import LiteMono
from networks.model_table import MODELS
from system.errors import UserError
from system.files import write_bytes

PLAIN_ENTRIES = ("height", "width", "use_stereo", "dilations", "min_depth", "max_depth")
# A damaged file can end in any of these inside torch's reader.
_DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
            OverflowError, AssertionError, struct.error)  # fmt: skip
PROFILER_ENTRIES = ("total_ops", "total_params")  # a profiler left them in some published files

def read_state(path):
    """Return what a .pth file holds, tensors on the CPU.

    Raises:
        UserError: the file is missing, truncated, or holds anything but tensors and plain values.
    """
    if not os.path.isfile(path):
        raise UserError("no such weights file", path, "a weights folder holds encoder.pth and depth.pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: seeking past a cut-off end
            raise
        fix = "copy or download it again; only plain tensors are loaded"
        raise UserError("not a readable weights file", path, fix) from error
    if not is_state_dict(state):
        raise UserError("not a state dict", path, "give a .pth file that holds named tensors")
    return state


def is_state_dict(value):
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def write_state(path, state):
    """Write tensors (moved to the CPU) and plain entries, whole or not at all."""
    buffer = io.BytesIO()  # torch turns a full disk into another error when it writes by itself
    torch.save(_on_cpu(state), buffer)
    write_bytes(path, buffer.getbuffer())


def _on_cpu(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, dict):
        return {key: _on_cpu(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(each) for each in value)
    return value


def load_strictly(network, state, path):
    """Load `state` into `network`; every key and shape must agree, save plain and profiler entries.

    Raises:
        UserError: they do not; the network is then as it was.
    """
    tensors = {key: value for key, value in state.items() if not is_tolerated(key)}
    wanted = network.state_dict()
    missing, unexpected = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    reshaped = [key for key in wanted.keys() & tensors.keys() if not same_shape(wanted[key], tensors[key])]
    if missing or unexpected or reshaped:
        example = sorted(reshaped or missing or unexpected)[0]
        raise UserError(
            f"the weights do not fit the network: {len(missing)} keys missing, {len(unexpected)} unexpected, "
            f"{len(reshaped)} of another shape (such as {example})",
            path,
            advice(state),
        )
    network.load_state_dict(tensors)


def is_tolerated(key):
    return key in PLAIN_ENTRIES or key.rsplit(".", 1)[-1] in PROFILER_ENTRIES


def same_shape(wanted, value):
    return isinstance(value, torch.Tensor) and value.shape == wanted.shape


def advice(state):
    name = identify_model(state)
    return f"they are {name}'s: pass --model {name}" if name else "check --model and the file"


def identify_model(state):
    """Return the name of the Lite-Mono model whose encoder or decoder has the keys and shapes of `state`, or None."""
    tensors = {key: tuple(value.shape) for key, value in state.items() if isinstance(value, torch.Tensor)}
    tensors = {key: shape for key, shape in tensors.items() if not is_tolerated(key)}
    for name, row in MODELS.items():
        with torch.device("meta"):
            candidates = LiteMono(name), DepthDecoder(row.channels)
        for network in candidates:
            if tensors == {key: tuple(value.shape) for key, value in network.state_dict().items()}:
                return name
    return None


def check_finite(where, *networks):
    """Raise `UserError` unless every number of the networks, loaded from `where`, is finite."""
    for network in networks:
        for key, value in network.state_dict().items():
            if not torch.isfinite(value.float()).all():
                raise UserError(f"the weights are not finite ({key})", where, "take another copy")
