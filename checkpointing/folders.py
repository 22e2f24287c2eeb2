"""The weights folder `weights_<epoch>/`: one file a network, in the published code's format, both ways.

`encoder.pth` holds, beside the tensors, the plain entries `height`, `width`, `use_stereo` and `dilations`.
"""

import logging
import os
from typing import NamedTuple

import torch
from torch import nn

from checkpointing.files import advice, identify_model, load_strictly, read_state, write_state
from networks.depth_decoder import DepthDecoder
from networks.lite_mono import LiteMono
from networks.model_table import dilations_for
from system.errors import UserError

log = logging.getLogger(__name__)

DEPTH_RANGE = (0.1, 100.0)  # of the published weights; another one is stored with the encoder

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
    """Return the weights folder's path, `~` expanded. Raises UserError when it is not there."""
    folder = os.path.expanduser(folder)
    if not os.path.isdir(folder):
        raise UserError("no such weights folder", folder, "give a folder that holds encoder.pth and depth.pth")
    return folder


def load_depth_network(folder, model=None, device="cpu", dilations=None):
    """Build encoder and decoder as the folder describes them, in eval mode on `device`.

    Args:
        folder: holds encoder.pth and depth.pth.
        model: a row of `networks.model_table.MODELS`; None: the one whose keys and shapes the encoder has.
        dilations: replace those of the file (three sequences); what differs is said in the log.

    Raises:
        UserError: a file is missing or unreadable, or belongs to another model.
    """
    folder = existing_folder(folder)
    path = os.path.join(folder, "encoder.pth")
    state = read_state(path)
    model = model or identify_model(state)
    if model is None:
        raise UserError("the weights are of none of the four models", path, "check the file, or say --model")
    height, width = (_stored_size(state, name, path) for name in ("height", "width"))
    used = choose_dilations(model, height, width, stored_dilations(state, path), dilations)
    depth_range = state.get("min_depth", DEPTH_RANGE[0]), state.get("max_depth", DEPTH_RANGE[1])
    try:
        encoder = LiteMono(model, height, width, drop_path_rate=0.0, dilations=used)
    except ValueError as error:
        raise UserError(f"the dilations do not fit the model ({error})", path, advice(state)) from error
    load_strictly(encoder, state, path)
    path = os.path.join(folder, "depth.pth")
    state = read_state(path)
    decoder = DepthDecoder(encoder.num_ch_enc, stored_scales(state, encoder.num_ch_enc))
    load_strictly(decoder, state, path)
    networks = encoder.to(device).eval(), decoder.to(device).eval()
    return DepthNetwork(*networks, height, width, encoder.dilations, depth_range, model)


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
