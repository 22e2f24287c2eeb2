"""The weights folder `weights_<epoch>/`: one file a network, in the published code's format, both ways.

`encoder.pth` holds, beside the tensors, the plain entries `height`, `width`, `use_stereo` and `dilations`.
"""

import logging
import os
import re
from typing import NamedTuple

import torch
from torch import nn

from checkpointing.files import load_strictly, read_state, write_state
from checkpointing.models import nearest_network
from networks.depth_decoder import DepthDecoder
from networks.lite_mono import LiteMono
from networks.model_table import LARGEST_DILATION, LARGEST_IMAGE, MODELS, dilations_for
from system.errors import UserError

log = logging.getLogger(__name__)

DEPTH_RANGE = (0.1, 100.0)  # of the published weights; another one is stored with the encoder
RANGE_ENTRIES = ("min_depth", "max_depth")
LEAST_DEPTH, LARGEST_DEPTH = 1e-6, 1e9  # metres that a file may store; inverses and products of these stay finite
BEST = "weights_best"
_EPOCH = re.compile(r"weights_(best|\d+)")


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
    model: str = None


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
    """Return the weights folder's path, `~` expanded. Raises UserError when it is not there or a level too high."""
    folder = os.path.expanduser(folder)
    advice_for_all = "give a folder that holds encoder.pth and depth.pth"
    if not os.path.isdir(folder):
        what = "a file, not a weights folder" if os.path.exists(folder) else "no such weights folder"
        raise UserError(what, folder, advice_for_all)
    if not any(name.endswith(".pth") for name in os.listdir(folder)):
        inner = _newest_weights(folder)
        raise UserError("the folder holds no weights", folder, f"did you mean {inner}?" if inner else advice_for_all)
    return folder


def _newest_weights(folder):
    """Return the weights folder that someone may mean who names a run's folder or its models/: the best, or newest."""
    for models in (folder, os.path.join(folder, "models")):
        names = [name for name in os.listdir(models) if _EPOCH.fullmatch(name)] if os.path.isdir(models) else []
        if names:
            return os.path.join(models, max(names, key=lambda name: (name == BEST, len(name), name)))
    return None


class Description(NamedTuple):
    """What an encoder's file says of its network. `dilations`: three tuples, or None where it stores none."""

    model: str
    dilations: tuple
    state: dict
    path: str


def describe(folder, model=None):
    """Read a weights folder's encoder and tell what it is, before anything is built.

    Args:
        folder: holds encoder.pth.
        model: the model that it has to be; None: any.

    Raises:
        UserError: no readable encoder of a Lite-Mono model, another model's, or unusable dilations.
    """
    path = os.path.join(existing_folder(folder), "encoder.pth")
    state = read_state(path)
    kind, found = nearest_network(state) or (None, None)
    if kind == "depth":
        raise UserError("the encoder's file holds a depth decoder", path, "give each file its own name")
    if found is None and model is None:
        raise UserError("not the encoder of a Lite-Mono model", path, f"give weights of {', '.join(MODELS)}")
    if model is not None and found not in (None, model):
        raise UserError(f"the weights do not fit {model}", path, f"they are {found}'s: pass --model {found}")
    return Description(model or found, stored_dilations(state, path, model or found), state, path)


def identify(folder):
    """Return (model name, dilations) of a weights folder, told by its encoder.

    The dilations are those that the file stores, else the published ones of its size.

    Raises:
        UserError: no readable encoder of a Lite-Mono model.
    """
    found = describe(folder)
    size = (_stored_size(found.state, found.path) if found.dilations is None else (0, 0))
    return found.model, found.dilations or dilations_for(found.model, *size)


def load_depth_network(folder, model=None, device="cpu", dilations=None):
    """Build encoder and decoder as the folder describes them, in eval mode on `device`.

    Args:
        folder: holds encoder.pth and depth.pth.
        model: a row of `networks.model_table.MODELS`; None: the one that the weights are of.
        dilations: replace those of the file (three sequences); what differs is said in the log.

    Raises:
        UserError: a file is missing or unreadable, not finite, or belongs to another model.
    """
    found = describe(folder, model)
    height, width = _stored_size(found.state, found.path)
    depth_range = _stored_range(found.state, found.path)
    try:
        used = choose_dilations(found.model, height, width, found.dilations, dilations)
        encoder = LiteMono(found.model, height, width, drop_path_rate=0.0, dilations=used)
    except ValueError as error:
        raise UserError(str(error), f"--dilations {dilations}", "give one number a block") from error
    load_strictly(encoder, found.state, found.path)
    path = os.path.join(os.path.dirname(found.path), "depth.pth")
    state = read_state(path)
    decoder = DepthDecoder(encoder.num_ch_enc, stored_scales(state, encoder.num_ch_enc))
    load_strictly(decoder, state, path)
    networks = encoder.to(device).eval(), decoder.to(device).eval()
    return DepthNetwork(*networks, height, width, encoder.dilations, depth_range, found.model)


def stored_scales(state, num_ch_enc):
    """Return the scales of the heads that a decoder file holds, told by their input channels; all three if unclear."""
    levels = [int(channels) // 2 for channels in num_ch_enc]
    heads = sorted(key for key in state if key.startswith("decoder.") and key.endswith(".conv.weight"))
    heads = [state[key] for key in heads if key.count(".") == 3 and isinstance(state[key], torch.Tensor)]
    inputs = [head.shape[1] for head in heads if head.dim() == 4]
    return tuple(levels.index(each) for each in inputs) if inputs and set(inputs) <= set(levels) else (0, 1, 2)


def _stored_size(state, path):
    """Return (height, width) of an encoder's file. Raises UserError where they are unusable."""
    size = []
    for name in ("height", "width"):
        value = state.get(name)
        if type(value) is not int or value <= 0 or value % 32:
            fix = "use an encoder.pth written by train.py or published with its size"
            raise UserError(f"the encoder file does not say a usable {name}", f"{path}: {value}", fix)
        size.append(value)
    if size[0] * size[1] > LARGEST_IMAGE:
        fix = f"height times width may be {LARGEST_IMAGE} pixels at most"
        raise UserError("the encoder file names too large a size", f"{path}: {size[1]}x{size[0]}", fix)
    return tuple(size)


def _stored_range(state, path):
    """Return (min_depth, max_depth) of an encoder's file. Raises UserError where they are unusable."""
    nearest, farthest = (state.get(name, usual) for name, usual in zip(RANGE_ENTRIES, DEPTH_RANGE, strict=True))
    numbers = all(type(value) in (int, float) for value in (nearest, farthest))
    if not numbers or not LEAST_DEPTH <= nearest < farthest <= LARGEST_DEPTH:
        fix = f"they are metres from {LEAST_DEPTH} to {LARGEST_DEPTH:.0e}, the nearest first: take another copy"
        which = f"{path}: {nearest}, {farthest}"
        raise UserError("the encoder file holds no usable min_depth and max_depth", which, fix)
    return float(nearest), float(farthest)


def stored_dilations(state, path, model):
    """Return the dilations of an encoder's file, three tuples, or None where it holds none.

    Raises:
        UserError: they are unusable, or not as many as `model` has blocks.
    """
    stored = state.get("dilations")
    if stored is None:
        return None
    stages = stored if isinstance(stored, list | tuple) and len(stored) == 3 else [None]
    usable = all(isinstance(stage, list | tuple) and all(_is_dilation(d) for d in stage) for stage in stages)
    if not usable or [len(stage) for stage in stages] != [len(stage) for stage in MODELS[model].dilations]:
        blocks = " + ".join(str(len(stage)) for stage in MODELS[model].dilations)
        fix = f"{model} takes {blocks} whole numbers in 1..{LARGEST_DILATION}: take another copy of the file"
        raise UserError("the encoder file holds no usable dilations", f"{path}: {stored}", fix)
    return tuple(tuple(stage) for stage in stages)


def _is_dilation(value):
    return type(value) is int and 0 < value <= LARGEST_DILATION


def choose_dilations(model, height, width, stored, wanted):
    """Return the dilations to build with: `wanted`, else those `stored`, else the published; say what differs."""
    published = dilations_for(model, height, width)
    used = tuple(tuple(stage) for stage in wanted) if wanted else stored or published
    if used != (stored or published):
        log.info("dilations %s from the command line replace %s of the weights", used, stored or published)
    elif used != published:
        log.info("dilations %s from the weights differ from the published %s of %s", used, published, model)
    return used
