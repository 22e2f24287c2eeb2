"""Motion networks from a weights folder: which of the three kinds its files hold, and that network, loaded.

`pose_encoder.pth` and `pose.pth`: a ResNet of its own (separate_resnet), as published; `pose.pth` alone: PoseCNN, or a
decoder on the depth encoder's features (shared), told apart by its keys.
"""

import json
import os
from typing import NamedTuple

import torch
from torch import nn

from checkpointing.files import check_finite, load_strictly, read_state
from checkpointing.folders import existing_folder, load_depth_network
from networks.pose_networks import PoseCNN, PoseDecoder
from networks.resnet_encoder import ResnetEncoder
from system.errors import UserError
from system.files import open_regular

PAIR = (0, 1)
DEFAULT_FRAMES = (0, -1, 1)  # of networks that see more than a pair, where opt.json does not say
_BLOCKS = {  # basic or bottleneck blocks in the four stages: layers
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
_DECODER_FEATURES = 256  # channels to which PoseDecoder squeezes each input


class MotionNetworks(NamedTuple):
    """What predicts motion, as a weights folder describes it; all networks in eval mode.

    kind: separate_resnet, shared or posecnn.
    pose: the PoseDecoder or PoseCNN.
    encoder: what makes the decoder's features: a ResnetEncoder, or the depth encoder (shared); None for posecnn.
    frame_ids: offsets of the frames that go in, in that order.
    depth: the folder's `DepthNetwork`, where the motion needs it: shared, and posecnn, whose translation is in units of
        the mean depth; None for separate_resnet, and for a posecnn without depth weights.
    height, width: the training size in pixels; None where the folder does not say.
    """

    kind: str
    pose: nn.Module
    encoder: nn.Module
    frame_ids: tuple
    depth: tuple
    height: int
    width: int


def load_motion_networks(folder, model=None, device="cpu"):
    """Load what predicts motion from a weights folder.

    Args:
        folder: holds pose.pth, and what goes with it.
        model: name of the Lite-Mono model; told from encoder.pth where it is None.

    Raises:
        UserError: a file is missing, unreadable, or of no pose network.
    """
    folder = existing_folder(folder)
    path = os.path.join(folder, "pose.pth")
    if not os.path.isfile(path):
        fix = "give a folder with pose.pth, as train.py writes it; the published depth weights carry none"
        raise UserError("the weights hold no pose network", folder, fix)
    state = read_state(path)
    encoder_path, depth = os.path.join(folder, "pose_encoder.pth"), None
    if "pose_conv.weight" in state:
        kind, encoder, pose = "posecnn", None, PoseCNN(_frames_seen(state, "net.0.weight", path))
        seen = pose.num_input_frames
        if all(os.path.isfile(os.path.join(folder, name)) for name in ("encoder.pth", "depth.pth")):
            depth = load_depth_network(folder, model, device)
    elif os.path.isfile(encoder_path):
        kind, encoder, seen = "separate_resnet", *_load_resnet(encoder_path)
        pose = _decoder(state, encoder.num_ch_enc, path)
    else:
        kind, depth = "shared", load_depth_network(folder, model, device)
        encoder = depth.encoder
        pose = _decoder(state, encoder.num_ch_enc, path)
        seen = _shape(state, "net.1.weight", path)[1] // _DECODER_FEATURES
        if seen < 2:
            fix = "copy pose_encoder.pth into the folder as well"
            raise UserError("a pose decoder without its encoder", f"{folder}: no pose_encoder.pth", fix)
    load_strictly(pose, state, path)
    check_finite(folder, *filter(None, (pose, encoder)))
    networks = [None if each is None else each.to(device).eval() for each in (pose, encoder)]
    size = (depth.height, depth.width) if depth else _stored_size(folder)
    return MotionNetworks(kind, *networks, _frame_ids(folder, seen), depth, *size)


def _load_resnet(path):
    state = read_state(path)
    keys = [key.split(".") for key in state if key.startswith("encoder.layer")]
    blocks = tuple(len({key[2] for key in keys if key[1] == f"layer{stage}"}) for stage in (1, 2, 3, 4))
    layers = _BLOCKS.get(("encoder.layer1.0.conv3.weight" in state, blocks))
    if layers is None:
        raise UserError("not the weights of a pose encoder", path, "give a ResNet of 18, 34, 50, 101 or 152 layers")
    images = _frames_seen(state, "encoder.conv1.weight", path)
    encoder = ResnetEncoder(layers, False, images)
    load_strictly(encoder, state, path)
    return encoder, images


def _decoder(state, num_ch_enc, path):
    inputs = _shape(state, "net.1.weight", path)[1] // _DECODER_FEATURES
    return PoseDecoder(num_ch_enc, inputs, _shape(state, "net.3.weight", path)[0] // 6)


def _frames_seen(state, key, path):
    seen = _shape(state, key, path)[1] // 3
    if seen < 2:
        raise UserError("a pose network that sees a single frame", f"{path}: {key}", "copy the file again")
    return seen


def _shape(state, key, path):
    value = state.get(key)
    if not isinstance(value, torch.Tensor) or value.dim() != 4:
        raise UserError(f"not the weights of a pose network: no {key}", path, "give a folder that train.py wrote")
    return value.shape


def _stored_size(folder):
    """Return (height, width) as encoder.pth says them, whatever network it is of; (None, None) without."""
    path = os.path.join(folder, "encoder.pth")
    state = read_state(path) if os.path.isfile(path) else {}
    size = tuple(state.get(name) for name in ("height", "width"))
    return size if all(isinstance(each, int) and each > 0 for each in size) else (None, None)


def _frame_ids(folder, seen):
    """Return the offsets of the frames that go in; the run's opt.json, beside the folder, knows those of an `all`."""
    if seen == 2:
        stored = _run_options(folder).get("frame_ids", ())
        together = _run_options(folder).get("pose_model_input") == "all"
        return tuple(stored) if together and len(stored) == 2 else PAIR
    stored = _run_options(folder).get("frame_ids", DEFAULT_FRAMES)
    if len(stored) != seen or stored[0] != 0 or not {1, -1} & set(stored):
        fix = "train with --pose_model_input pairs, or with neighbours such as --frame_ids 0 -1 1"
        raise UserError("frames from which no motion to the next follows", f"{folder}: {seen} frames, {stored}", fix)
    return tuple(stored)


def _run_options(folder):
    try:
        path = os.path.join(os.path.dirname(os.path.abspath(folder)), "opt.json")
        with open_regular(path, encoding="utf-8") as file:
            options = json.load(file)
    except (OSError, ValueError, RecursionError, UserError):
        return {}
    return options if isinstance(options, dict) else {}
