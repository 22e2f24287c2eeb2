"""The depth encoder with a classifier's head, registered with timm under the models' names, and its checkpoints.

A checkpoint is `{'model': state dict}`: the encoder's entries as in encoder.pth, `norm.*` and `head.*`.
"""

import argparse
import functools
import os

import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import nn

from checkpointing.files import PROFILER_ENTRIES, identify_model, load_strictly, read_state
from checkpointing.imagenet import CLASSIFIER_ENTRIES
from networks import LiteMono
from networks.model_table import MODELS
from system.errors import UserError
from training.run import states as states


class LiteMonoClassifier(LiteMono):
    """The encoder, and on the global average of its last map a LayerNorm, dropout and a Linear.

    Args:
        model: a row of `networks.model_table.MODELS`.
        num_classes: classes to tell apart.
        drop_path_rate, layer_scale_init_value: as in `LiteMono`.
        drop_rate: dropout before the classifier.
    """

    def __init__(self, model, num_classes=1000, drop_path_rate=0.0, drop_rate=0.0, layer_scale_init_value=1e-5):
        super().__init__(model, drop_path_rate=drop_path_rate, layer_scale_init_value=layer_scale_init_value)
        self.num_classes, self.num_features, self.drop_rate = num_classes, self.num_ch_enc[-1], drop_rate
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.head = nn.Linear(self.num_features, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)

    def forward_head(self, feature_map):
        """Return logits (B, classes) of the encoder's last map (B, C, H/16, W/16)."""
        return self.head(F.dropout(self.norm(feature_map.mean((2, 3))), self.drop_rate, self.training))

    def forward(self, x):
        """Return logits (B, classes) of an image (B, 3, H, W) that the loader has normalised."""
        return self.forward_head(self.forward_features(x)[-1])

    def no_weight_decay(self):
        """Return the names that timm's optimisers leave undecayed besides everything one-dimensional."""
        return {name for name, _ in self.named_parameters() if name.endswith("temperature")}


def _build(name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **settings):
    if pretrained:
        raise ValueError(f"{name} has no weights to download: load a checkpoint instead")
    return LiteMonoClassifier(name, **settings)


for _name in MODELS:
    _entry = functools.partial(_build, _name)
    _entry.__name__, _entry.__module__ = _name, __name__
    register_model(_entry)


# ---------------------------------------------------------------------------------------------------------- checkpoints


def read_classifier(path, ema=False):
    """Return (state dict, class names or None) of a checkpoint, a published ImageNet file or a resumable state.

    Raises:
        UserError: unreadable file, or no moving average in it where one is asked for.
    """
    content = states.read(path) if _is_state(path) else _read_checkpoint(path)
    if ema and "model_ema" not in content:
        raise UserError("no moving average in the file", path, "drop --ema, or train with --model_ema")
    state = content["model_ema"] if ema else content.get("model", content)
    if not isinstance(state, dict):
        raise UserError("not a state dict", path, "give a file that holds {'model': state dict}")
    tensors = {
        key.removeprefix("module."): value
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and key.rsplit(".", 1)[-1] not in PROFILER_ENTRIES
    }
    return tensors, content.get("classes")


def _is_state(path):
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(states.MAGIC)) == states.MAGIC


def _read_checkpoint(path):
    with torch.serialization.safe_globals([argparse.Namespace]):  # other scripts store their options: plain values
        return read_state(path)


def encoder_entries(state):
    """Return the entries of a classifier's state dict without head and final norm."""
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIER_ENTRIES)}


def identify_encoder(state, path):
    """Return the model's name that a classifier's state dict belongs to. Raises UserError when it is none."""
    name = identify_model(encoder_entries(state))
    if name is None:
        raise UserError("not the weights of a Lite-Mono encoder", path, f"give a checkpoint of {', '.join(MODELS)}")
    return name


def load_classifier(network, path, ema=False):
    """Load a checkpoint into a `LiteMonoClassifier`, all keys and shapes; return its class names or None.

    Raises:
        UserError: another model, another number of classes, or not a classifier's file.
    """
    state, classes = read_classifier(path, ema)
    name = identify_encoder(state, path)
    if name != network.model:
        raise UserError("the checkpoint is another model's", f"{path}: {name}", f"pass --model {name}")
    if "head.weight" not in state:
        raise UserError("the checkpoint has no classifier", path, "give one with head.* and norm.*")
    if len(state["head.weight"]) != network.num_classes:
        count = len(state["head.weight"])
        raise UserError(
            "the checkpoint tells another number of classes apart", f"{path}: {count}", f"pass --nb_classes {count}"
        )
    load_strictly(network, state, path)
    return classes
