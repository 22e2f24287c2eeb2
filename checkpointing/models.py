"""What weights are, told by their keys and shapes alone: which network, of which model."""

import functools

import torch

from networks.depth_decoder import DepthDecoder
from networks.lite_mono import LiteMono
from networks.model_table import MODELS

PLAIN_ENTRIES = ("height", "width", "use_stereo", "dilations", "min_depth", "max_depth")
PROFILER_ENTRIES = ("total_ops", "total_params")  # a profiler left them in some published files
RESEMBLANCE = 0.5  # share of keys and shapes that a file must have in common with a network to be taken for its


def is_tolerated(key):
    """Whether a key of a weights file may be there although no network has it."""
    return key in PLAIN_ENTRIES or key.rsplit(".", 1)[-1] in PROFILER_ENTRIES


def identify_model(state):
    """Return the name of the Lite-Mono model whose encoder or decoder has the keys and shapes of `state`, or None."""
    entries = _entries(state)
    return next((model for (_, model), known in _networks().items() if known == entries), None)


def nearest_network(state):
    """Return ("encoder" or "depth", model name) of the network that a state dict resembles most, or None.

    Base and small share their decoder, which is then called base's.
    """
    entries = _entries(state)
    shares = {what: len(known & entries) / len(known | entries) for what, known in _networks().items()}
    best = max(shares, key=shares.get)
    return best if shares[best] >= RESEMBLANCE else None


def _entries(state):
    """Return the (key, shape) pairs of a state dict's tensors, without what is tolerated."""
    tensors = ((key, value) for key, value in state.items() if isinstance(value, torch.Tensor))
    return {(key, tuple(value.shape)) for key, value in tensors if not is_tolerated(key)}


@functools.cache
def _networks():
    """Return {("encoder" or "depth", model): (key, shape) pairs}."""
    with torch.device("meta"):
        encoders = {("encoder", name): LiteMono(name) for name in MODELS}
        decoders = {("depth", name): DepthDecoder(row.channels) for name, row in MODELS.items()}
    return {what: _entries(network.state_dict()) for what, network in (encoders | decoders).items()}
