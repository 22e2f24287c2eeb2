"""ImageNet weights of the depth encoder, as pre-training and the authors write them."""

import logging

import torch

from checkpointing.files import advice, is_state_dict, is_tolerated, read_state, same_shape
from system.errors import UserError

log = logging.getLogger(__name__)

CLASSIFIER_ENTRIES = ("head.", "norm.")  # of ImageNet pre-training: classifier and final norm

def load_pretrained_encoder(encoder, path):
    """Load ImageNet weights (`{'model': state dict}` or the bare dict) into the depth encoder and report the keys.

    Returns:
        (matched, missing, unexpected): sorted lists of keys; the classifier's own entries are not counted.

    Raises:
        UserError: unreadable file, or no key fits.
    """
    state = read_state(path)
    state = state.get("model", state)
    if not is_state_dict(state):
        raise UserError("not a state dict", path, "give a file that holds {'model': state dict}")
    tensors = {
        key: value
        for key, value in state.items()
        if not is_tolerated(key) and not key.startswith(CLASSIFIER_ENTRIES) and isinstance(value, torch.Tensor)
    }
    wanted = encoder.state_dict()
    matched = sorted(key for key in tensors.keys() & wanted.keys() if same_shape(wanted[key], tensors[key]))
    missing = sorted(wanted.keys() - set(matched))
    unexpected = sorted(tensors.keys() - set(matched))
    if not matched:
        raise UserError("no entry of the pre-trained file fits the encoder", path, advice(tensors))
    encoder.load_state_dict({**wanted, **{key: tensors[key] for key in matched}})
    log.info("pre-trained encoder: %d keys matched, %d missing, %d unexpected (%s)",
             len(matched), len(missing), len(unexpected), path)
    for name, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            log.warning("  %s: %s%s", name, ", ".join(keys[:5]), " ..." if len(keys) > 5 else "")
    return matched, missing, unexpected
