"""ImageNet weights of the depth encoder, as pre-training and the authors write them."""

import logging

import torch

from checkpointing.files import advice, check_values, is_state_dict, read_state, same_shape
from checkpointing.models import identify_model, is_tolerated
from system.errors import UserError

log = logging.getLogger(__name__)

CLASSIFIER_ENTRIES = ("head.", "norm.")  # of ImageNet pre-training: classifier and final norm
PARALLEL_PREFIX = "module."  # that torch's wrappers for several GPUs put before every key


def classifier_weights(content, path, entry="model", flag="--ema"):
    """Return the tensors, key -> tensor, in what a file of pre-training holds: head and final norm included.

    Args:
        content: what `read_state` returned for a checkpoint of pre-training (ours, or the published code's with its
            optimiser and options), a published ImageNet file, a bare state dict, or a resumable state's content.
        path: of the file.
        entry: which weights of the file: "model", "model_ema" (their moving average), or another script's name.
        flag: the option that asked for another entry than "model".

    Raises:
        UserError: no such entry in it, no state dict, or values that are not finite real numbers.
    """
    if entry != "model" and entry not in content:
        what = "no moving average in the file" if entry == "model_ema" else f"no entry {entry} in the file"
        raise UserError(what, path, f"drop {flag}, or name another checkpoint")
    state = content.get(entry, content)
    if not is_state_dict(state):
        raise UserError("not a state dict", path, "give a file that holds {'model': state dict}")
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor) and not is_tolerated(key)}
    check_values(tensors, tensors, path)
    return {key.removeprefix(PARALLEL_PREFIX): value for key, value in tensors.items()}


def encoder_entries(tensors):
    """Return a classifier's entries without head and final norm."""
    return {key: value for key, value in tensors.items() if not key.startswith(CLASSIFIER_ENTRIES)}


def load_pretrained_encoder(encoder, path):
    """Load ImageNet weights into the depth encoder and report the keys; the classifier's own are not counted.

    Args:
        encoder: `LiteMono`.
        path: a file as `classifier_weights` describes them.

    Returns:
        (matched, missing, unexpected): sorted lists of keys.

    Raises:
        UserError: unreadable file, no key fits, or values that are not finite.
    """
    tensors = encoder_entries(classifier_weights(read_state(path), path))
    wanted = encoder.state_dict()
    matched = sorted(key for key in tensors.keys() & wanted.keys() if same_shape(wanted[key], tensors[key]))
    missing = sorted(wanted.keys() - set(matched))
    unexpected = sorted(tensors.keys() - set(matched))
    if not matched:
        raise UserError("no entry of the pre-trained file fits the encoder", path, advice(tensors, encoder))
    check_values({key: tensors[key] for key in matched}, wanted, path)  # also as the encoder's own kind of number
    encoder.load_state_dict({**wanted, **{key: tensors[key] for key in matched}})
    log.info("pre-trained encoder: %d keys matched, %d missing, %d unexpected (%s)",
             len(matched), len(missing), len(unexpected), path)
    if (name := identify_model(tensors)) not in (None, encoder.model):
        log.warning("  the file is %s's, the encoder %s's: is --model right?", name, encoder.model)
    for what, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            log.warning("  %s: %s%s", what, ", ".join(keys[:5]), " ..." if len(keys) > 5 else "")
    return matched, missing, unexpected
