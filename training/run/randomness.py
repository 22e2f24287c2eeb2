"""The random generators of a process: seeded, and their states as plain values."""

import random

import numpy as np
import torch

NUMPY_WORDS = 624  # of the Mersenne Twister


def seed_everything(seed):
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states(device):
    """Return the states of every random generator of this process, as plain values and tensors."""
    version, keys, gauss = random.getstate()
    name, words, *rest = np.random.get_state()
    states = {
        "python": [version, list(keys), gauss],
        "numpy": [name, torch.from_numpy(words.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states, device):
    """Put back what `random_states` returned.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError: it is something else.
    """
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, position, *rest = states["numpy"]
    if not 0 <= position <= NUMPY_WORDS:  # NumPy would read there without looking
        raise ValueError(f"NumPy's generator at position {position} of {NUMPY_WORDS}")
    np.random.set_state((name, words.numpy().astype(np.uint32), position, *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
