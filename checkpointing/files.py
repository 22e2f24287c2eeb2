"""One .pth file: read without unpickling anything but tensors and plain values, written whole, loaded strictly."""

import argparse
import errno
import io
import os
import pickle
import struct
import warnings

import torch

from checkpointing.models import identify_model, is_tolerated, nearest_network
from networks.depth_decoder import DepthDecoder
from networks.lite_mono import LiteMono
from system.errors import NotFinite, UserError
from system.files import write_bytes

__all__ = ["identify_model"]  # known under this module's name too

# A damaged file can end in any of these inside torch's reader.
_DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
            OverflowError, AssertionError, MemoryError, ImportError, struct.error)  # fmt: skip


def read_state(path):
    """Return what a .pth file holds, tensors on the CPU.

    Read are tensors, plain values and the options that training scripts store beside them (`argparse.Namespace`).

    Raises:
        UserError: the file is missing, truncated, or holds anything else.
    """
    if not os.path.isfile(path):
        what = "not a file" if os.path.exists(path) else "no such weights file"
        raise UserError(what, path, "a weights folder holds encoder.pth and depth.pth")
    try:
        # torch warns of other pickle protocols and of TorchScript; what it cannot read it refuses anyway.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
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
        UserError: they do not, or a value is not finite; the network is then as it was.
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
            advice(state, network),
        )
    check_values(tensors, wanted, path)
    network.load_state_dict(tensors)


def check_values(tensors, wanted, path):
    """Check tensors of the right shapes before they are loaded.

    Args:
        tensors: key -> tensor from a file.
        wanted: key -> tensor of the network, at least with the same keys.
        path: of the file.

    Raises:
        UserError: a tensor of another kind (sparse, quantised, complex, ...), a value that is not finite, or a negative
            variance of BatchNorm.
    """
    for key, value in tensors.items():
        if not is_plain(value, wanted[key].dtype):
            kind = "quantised" if value.is_quantized else "meta" if value.is_meta else str(value.dtype)
            kind = kind if value.layout == torch.strided else str(value.layout)
            raise UserError(f"the weights hold a tensor of another kind ({kind.removeprefix('torch.')})",
                            f"{path}: {key}", "save plain float tensors, or take another copy")  # fmt: skip
        if not torch.isfinite(value.to(wanted[key].dtype)).all():
            raise NotFinite("the weights are not finite", path, key, "take another copy, or an earlier epoch's")
        if key.endswith("running_var") and (value < 0).any():
            raise UserError("the weights hold a negative variance", f"{path}: {key}",
                            "take another copy, or an earlier epoch's")  # fmt: skip


def is_plain(value, dtype):
    """Whether a value is an ordinary tensor in memory that `dtype` can take: any real float, or whole numbers."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    if value.is_complex() or value.dtype == torch.bool:
        return False
    return value.is_floating_point() or not dtype.is_floating_point


def same_shape(wanted, value):
    return isinstance(value, torch.Tensor) and value.shape == wanted.shape


def advice(state, network):
    """Return what to do about a state dict that does not fit a network."""
    found = nearest_network(state)
    if found is None or not isinstance(network, LiteMono | DepthDecoder):
        return "check --model and the file"
    kind, name = found
    wanted = "encoder" if isinstance(network, LiteMono) else "depth"
    if kind != wanted:
        return f"the file holds {'an encoder' if kind == 'encoder' else 'a depth decoder'}: give {wanted}.pth"
    if kind == "encoder" and name != network.model:
        return f"they are {name}'s: pass --model {name}"
    if kind == "depth" and not same_channels(state, network):
        return f"they are {name}'s: pass --model {name}, or take both files of one model"
    return f"the file is {name}'s but for that: take another copy"


def same_channels(state, decoder):
    """Whether a decoder's state dict starts from as many channels as `decoder`."""
    first = "decoder.0.conv.conv.weight"
    return first in state and same_shape(decoder.state_dict()[first], state[first])


def check_finite(where, *networks):
    """Raise `UserError` unless every number of the networks, loaded from `where`, is finite."""
    for network in networks:
        for key, value in network.state_dict().items():
            if not torch.isfinite(value.float()).all():
                raise NotFinite("the weights are not finite", where, key, "take another copy")
