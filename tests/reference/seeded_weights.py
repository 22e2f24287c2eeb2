"""Weights and pictures that come out the same on every machine: those on which the reference figures were computed.

A tensor depends on its state-dict key and shape alone, a picture on its seed and shape; NumPy only.
"""

import zlib

import numpy as np

_TILE = 16  # pixels between the random values that a picture's smooth part interpolates


def tensor_for(key, shape):
    """Return the value that belongs to state-dict entry `key` of `shape`: float32, int64 for BatchNorm's counters."""
    draw = np.random.default_rng(zlib.crc32(key.encode()))
    kind = key.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind in ("running_mean", "bias"):
        value = 0.05 * draw.standard_normal(shape)
    elif kind in ("gamma", "gamma_xca"):
        value = draw.uniform(0.1, 0.4, shape)
    elif kind in ("running_var", "temperature") or len(shape) == 1:
        value = draw.uniform(0.5, 1.5, shape)
    else:
        value = draw.standard_normal(shape) / np.sqrt(int(np.prod(shape[1:])))
    return value.astype(np.float32)


def fill(state_dict):
    """Return key -> array for every key of `state_dict`, whose values only need a shape."""
    return {key: tensor_for(key, tuple(value.shape)) for key, value in state_dict.items()}


def image(seed, shape):
    """Return a (B, C, H, W) float32 picture in [0, 1]: smooth blobs with a little noise."""
    draw = np.random.default_rng(seed)
    *outer, height, width = shape
    knots = draw.random((*outer, height // _TILE + 2, width // _TILE + 2))
    rows = np.linspace(0, knots.shape[2] - 1.001, height)
    columns = np.linspace(0, knots.shape[3] - 1.001, width)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None]

    def corner(below, beside):
        return knots[:, :, top + below][:, :, :, left + beside]

    smooth = (
        corner(0, 0) * (1 - down) * (1 - right)
        + corner(0, 1) * (1 - down) * right
        + corner(1, 0) * down * (1 - right)
        + corner(1, 1) * down * right
    )
    return np.clip(0.85 * smooth + 0.15 * draw.random(shape), 0, 1).astype(np.float32)
