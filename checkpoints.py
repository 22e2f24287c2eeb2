"""Weights on disk: the folder `weights_<epoch>/`, one file a network, in the published code's format.

`encoder.pth` holds, beside the tensors, the plain entries `height`, `width`, `use_stereo` and `dilations`. Files are
read without unpickling anything but tensors and plain values; keys and shapes must agree, but for a named few.
"""

import errno
import io
import logging
import os
import pickle
import struct
from typing import NamedTuple

import torch
from torch import nn

from errors import UserError
from files import write_bytes
from model_table import MODELS, dilations_for
from networks.depth_decoder import DepthDecoder
from networks.lite_mono import LiteMono

log = logging.getLogger(__name__)

PLAIN_ENTRIES = ("height", "width", "use_stereo", "dilations", "min_depth", "max_depth")
DEPTH_RANGE = (0.1, 100.0)  # of the published weights; another one is stored with the encoder
# A damaged file can end in any of these inside torch's reader.
_DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
            OverflowError, AssertionError, struct.error)  # fmt: skip
PROFILER_ENTRIES = ("total_ops", "total_params")  # a profiler left them in some published files
CLASSIFIER_ENTRIES = ("head.", "norm.")  # of ImageNet pre-training: classifier and final norm


# ---------------------------------------------------------------------------------------------------------------- files


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
    if not _is_state_dict(state):
        raise UserError("not a state dict", path, "give a .pth file that holds named tensors")
    return state


def _is_state_dict(value):
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
    tensors = {key: value for key, value in state.items() if not _is_tolerated(key)}
    wanted = network.state_dict()
    missing, unexpected = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    reshaped = [key for key in wanted.keys() & tensors.keys() if not _same_shape(wanted[key], tensors[key])]
    if missing or unexpected or reshaped:
        example = sorted(reshaped or missing or unexpected)[0]
        raise UserError(
            f"the weights do not fit the network: {len(missing)} keys missing, {len(unexpected)} unexpected, "
            f"{len(reshaped)} of another shape (such as {example})",
            path,
            _advice(state),
        )
    network.load_state_dict(tensors)


def _is_tolerated(key):
    return key in PLAIN_ENTRIES or key.rsplit(".", 1)[-1] in PROFILER_ENTRIES


def _same_shape(wanted, value):
    return isinstance(value, torch.Tensor) and value.shape == wanted.shape


def _advice(state):
    name = identify_model(state)
    return f"they are {name}'s: pass --model {name}" if name else "check --model and the file"


def identify_model(state):
    """Return the name of the Lite-Mono model whose encoder or decoder has the keys and shapes of `state`, or None."""
    tensors = {key: tuple(value.shape) for key, value in state.items() if isinstance(value, torch.Tensor)}
    tensors = {key: shape for key, shape in tensors.items() if not _is_tolerated(key)}
    for name, row in MODELS.items():
        with torch.device("meta"):
            candidates = LiteMono(name), DepthDecoder(row.channels)
        for network in candidates:
            if tensors == {key: tuple(value.shape) for key, value in network.state_dict().items()}:
                return name
    return None


# -------------------------------------------------------------------------------------------------------------- folders


class DepthNetwork(NamedTuple):
    """A depth network as a weights folder describes it.

    height, width: the training size in pixels. depth_range: (min_depth, max_depth) that its disparity stands for.
    """

    encoder: nn.Module
    decoder: nn.Module
    height: int
    width: int
    dilations: tuple
    depth_range: tuple = DEPTH_RANGE


def save_networks(folder, networks, height, width, use_stereo, dilations, depth_range=DEPTH_RANGE):
    """Write `<name>.pth` of every network into an existing folder; the encoder's file carries the plain entries."""
    for name, network in networks.items():
        state = dict(network.state_dict())
        if name == "encoder":
            stored = [list(stage) for stage in dilations]
            state |= {"height": height, "width": width, "use_stereo": use_stereo, "dilations": stored}
            if tuple(depth_range) != DEPTH_RANGE:
                state |= {"min_depth": float(depth_range[0]), "max_depth": float(depth_range[1])}
        write_state(os.path.join(folder, f"{name}.pth"), state)


def load_networks(folder, networks):
    """Load `<name>.pth` of the folder into each of {name: network}.

    Raises:
        UserError: the folder or a file is missing, or does not fit.
    """
    folder = existing_folder(folder)
    states = {name: read_state(os.path.join(folder, f"{name}.pth")) for name in networks}
    for name, network in networks.items():
        load_strictly(network, states[name], os.path.join(folder, f"{name}.pth"))


def existing_folder(folder):
    """Return the weights folder's path, `~` expanded. Raises UserError when it is not there."""
    folder = os.path.expanduser(folder)
    if not os.path.isdir(folder):
        raise UserError("no such weights folder", folder, "give a folder that holds encoder.pth and depth.pth")
    return folder


def load_depth_network(folder, model, device="cpu", dilations=None):
    """Build encoder and decoder as the folder describes them, in eval mode on `device`.

    Args:
        folder: holds encoder.pth and depth.pth.
        model: a row of `model_table.MODELS`.
        dilations: replace those of the file (three sequences); what differs is said in the log.

    Raises:
        UserError: a file is missing or unreadable, or belongs to another model.
    """
    folder = existing_folder(folder)
    path = os.path.join(folder, "encoder.pth")
    state = read_state(path)
    height, width = (_stored_size(state, name, path) for name in ("height", "width"))
    used = choose_dilations(model, height, width, stored_dilations(state, path), dilations)
    depth_range = state.get("min_depth", DEPTH_RANGE[0]), state.get("max_depth", DEPTH_RANGE[1])
    try:
        encoder = LiteMono(model, height, width, drop_path_rate=0.0, dilations=used)
    except ValueError as error:
        raise UserError(f"the dilations do not fit the model ({error})", path, _advice(state)) from error
    load_strictly(encoder, state, path)
    path = os.path.join(folder, "depth.pth")
    state = read_state(path)
    decoder = DepthDecoder(encoder.num_ch_enc, stored_scales(state, encoder.num_ch_enc))
    load_strictly(decoder, state, path)
    networks = encoder.to(device).eval(), decoder.to(device).eval()
    return DepthNetwork(*networks, height, width, encoder.dilations, depth_range)


def stored_scales(state, num_ch_enc):
    """Return the scales of the heads that a decoder file holds, told by their input channels; all three if unclear."""
    levels = [int(channels) // 2 for channels in num_ch_enc]
    heads = sorted(key for key in state if key.startswith("decoder.") and key.endswith(".conv.weight"))
    heads = [state[key] for key in heads if key.count(".") == 3 and isinstance(state[key], torch.Tensor)]
    inputs = [head.shape[1] for head in heads if head.dim() == 4]
    return tuple(levels.index(each) for each in inputs) if inputs and set(inputs) <= set(levels) else (0, 1, 2)


def _stored_size(state, name, path):
    value = state.get(name)
    if not isinstance(value, int) or value <= 0 or value % 32:
        fix = "use an encoder.pth written by train.py or published with its size"
        raise UserError(f"the encoder file does not say a usable {name}", f"{path}: {value}", fix)
    return value


def stored_dilations(state, path):
    """Return the dilations of an encoder's file, three tuples, or None. Raises UserError where they are unusable."""
    stored = state.get("dilations")
    if stored is None:
        return None
    stages = stored if isinstance(stored, list | tuple) and len(stored) == 3 else [None]
    if not all(isinstance(stage, list | tuple) and all(type(d) is int and d > 0 for d in stage) for stage in stages):
        raise UserError("the encoder file holds no usable dilations", f"{path}: {stored}", "copy the file again")
    return tuple(tuple(stage) for stage in stages)


def choose_dilations(model, height, width, stored, wanted):
    """Return the dilations to build with: `wanted`, else those `stored`, else the published; say what differs."""
    published = dilations_for(model, height, width)
    used = tuple(tuple(stage) for stage in wanted) if wanted else stored or published
    if used != (stored or published):
        log.info("dilations %s from the command line replace %s of the weights", used, stored or published)
    elif used != published:
        log.info("dilations %s from the weights differ from the published %s of %s", used, published, model)
    return used


# --------------------------------------------------------------------------------------------------------- pre-training


def load_pretrained_encoder(encoder, path):
    """Load ImageNet weights (`{'model': state dict}` or the bare dict) into the depth encoder and report the keys.

    Returns:
        (matched, missing, unexpected): sorted lists of keys; the classifier's own entries are not counted.

    Raises:
        UserError: unreadable file, or no key fits.
    """
    state = read_state(path)
    state = state.get("model", state)
    if not _is_state_dict(state):
        raise UserError("not a state dict", path, "give a file that holds {'model': state dict}")
    tensors = {
        key: value
        for key, value in state.items()
        if not _is_tolerated(key) and not key.startswith(CLASSIFIER_ENTRIES) and isinstance(value, torch.Tensor)
    }
    wanted = encoder.state_dict()
    matched = sorted(key for key in tensors.keys() & wanted.keys() if _same_shape(wanted[key], tensors[key]))
    missing = sorted(wanted.keys() - set(matched))
    unexpected = sorted(tensors.keys() - set(matched))
    if not matched:
        raise UserError("no entry of the pre-trained file fits the encoder", path, _advice(tensors))
    encoder.load_state_dict({**wanted, **{key: tensors[key] for key in matched}})
    log.info("pre-trained encoder: %d keys matched, %d missing, %d unexpected (%s)",
             len(matched), len(missing), len(unexpected), path)
    for name, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            log.warning("  %s: %s%s", name, ", ".join(keys[:5]), " ..." if len(keys) > 5 else "")
    return matched, missing, unexpected
