"""The depth encoder with a classifier's head, registered with timm under the models' names, and its checkpoints.

A checkpoint is `{'model': state dict}`: the encoder's entries as in encoder.pth, `norm.*` and `head.*`.
"""

import functools
import os
import zipfile

import torch.nn.functional as F
from timm.models import register_model
from torch import nn

from checkpointing.files import load_strictly, read_state
from checkpointing.imagenet import classifier_weights, encoder_entries
from checkpointing.models import identify_model
from networks import LiteMono
from networks.model_table import MODELS
from system.errors import UserError
from training.run import states


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
        nn.init.kaiming_normal_(self.head.weight, mode="fan_out", nonlinearity="relu")  # as every Linear of the encoder

    def forward_head(self, feature_map):
        """Return logits (B, classes) of the encoder's last map (B, C, H/16, W/16)."""
        return self.head(F.dropout(self.norm(feature_map.mean((2, 3))), self.drop_rate, self.training))

    def forward(self, x):
        """Return logits (B, classes) of an image (B, 3, H, W) that the loader has normalised."""
        return self.forward_head(self.forward_features(x)[-1])


def _build(name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **settings):
    if pretrained:
        raise ValueError(f"{name} has no weights to download: load a checkpoint instead")
    return LiteMonoClassifier(name, **settings)


for _name in MODELS:
    _entry = functools.partial(_build, _name)
    _entry.__name__, _entry.__module__ = _name, __name__
    register_model(_entry)


# ---------------------------------------------------------------------------------------------------------- checkpoints


def read_classifier(path, entry="model", flag="--ema"):
    """Return (state dict, class names or None) of a checkpoint, a published ImageNet file or a resumable state.

    Args:
        entry: which weights of the file: "model", "model_ema" (their moving average), or another script's name.
        flag: the option that asked for another entry than "model".

    Raises:
        UserError: unreadable file, no such entry in it, or entries that are no weights.
    """
    if not os.path.isfile(path):
        raise UserError("no such weights file", path, "name a checkpoint-*.pth, or another file of weights")
    content = states.read(path) if _is_state(path) else read_state(path)
    tensors, classes = classifier_weights(content, path, entry, flag), content.get("classes")
    if not (classes is None or isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise UserError("class names that are no names", path, "take another checkpoint")
    if "head.weight" in tensors and tensors["head.weight"].ndim != 2:
        raise UserError("a classifier of another shape", path, "take another checkpoint")
    if classes is not None and "head.weight" in tensors and len(classes) != len(tensors["head.weight"]):
        raise UserError("not as many class names as classes", path, "take another checkpoint")
    return tensors, classes


def is_checkpoint(path):
    """Whether a file is one of torch's, as checkpoints are and resumable states are not."""
    return os.path.isfile(path) and not _is_state(path) and zipfile.is_zipfile(path)


def _is_state(path):
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(states.MAGIC)) == states.MAGIC


def identify_encoder(state, path):
    """Return the model's name that a classifier's state dict belongs to. Raises UserError when it is none."""
    name = identify_model(encoder_entries(state))
    if name is None or not any(key.startswith("downsample_layers.") for key in state):
        raise UserError("not the weights of a Lite-Mono encoder", path, f"give a checkpoint of {', '.join(MODELS)}")
    return name


def load_classifier(network, path, entry="model", flag="--model_ema_eval"):
    """Load a checkpoint into a `LiteMonoClassifier`, all keys and shapes; return its class names or None.

    Raises:
        UserError: another model, another number of classes, or not a classifier's file.
    """
    state, classes = read_classifier(path, entry, flag)
    _check_model(network, state, path)
    if "head.weight" not in state:
        raise UserError("the checkpoint has no classifier", path, "give one with head.* and norm.*")
    if len(state["head.weight"]) != network.num_classes:
        count = len(state["head.weight"])
        raise UserError(
            "the checkpoint tells another number of classes apart", f"{path}: {count}", f"pass --nb_classes {count}"
        )
    load_strictly(network, state, path)
    return classes


def load_starting_weights(network, path, names):
    """Load encoder, final norm and, where the classes are the same, head of a checkpoint; return what was loaded.

    Args:
        network: `LiteMonoClassifier`.
        path: checkpoint, published ImageNet file, or an encoder alone.
        names: class names of the run, in its order; rows of the head are put into this order where the file has names.

    Raises:
        UserError: another model, or not an encoder's file.
    """
    state, classes = read_classifier(path)
    _check_model(network, state, path)
    head = _reordered_head(state, classes, names)
    loaded = encoder_entries(state) | {key: value for key, value in state.items() if key.startswith("norm.")} | head
    load_strictly(network, network.state_dict() | loaded, path)
    parts = ["encoder", "norm" if "norm.weight" in loaded else "", "head" if head else ""]
    return ", ".join(filter(None, parts))


def _check_model(network, state, path):
    name = identify_encoder(state, path)
    if name != network.model:
        raise UserError("the checkpoint is another model's", f"{path}: {name}", f"pass --model {name}")


def _reordered_head(state, classes, names):
    """Return the head's entries with their rows in the order of `names`, or nothing where the classes differ."""
    head = {key: value for key, value in state.items() if key.startswith("head.")}
    if not head or len(head["head.weight"]) != len(names):
        return {}
    if classes is None:
        return head
    if sorted(classes) != sorted(names):
        return {}
    order = [classes.index(name) for name in names]
    return {key: value[order] for key, value in head.items()}
