"""Pillow's Lanczos resizing as blocks of small matrix products: the same numbers to the bit, in half the time.

Pillow weighs 8-bit pixels with coefficients rounded to 2^-22, along rows and along columns, in the order of
`columns_first`, and rounds each result to 8 bits. Here every coefficient is split into two halves of 11 bits, so that
both halves' sums are exact in float32, and both are matrix products: an output pixel depends on few input pixels, hence
one narrow product per block of neighbouring outputs. Intermediate images are float32 planes that hold whole numbers.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import PIL

BITS = 22  # of Pillow's fixed-point coefficients
HALF = 1 << (BITS // 2)
LOBES = 3  # of the Lanczos window
ONE_ORDER = int(PIL.__version__.split(".")[0]) < 13  # Pillow up to 12 goes along rows first, whatever the sizes
BLOCK = 16  # outputs per matrix product
PRODUCT = 1 << 18  # multiplications per matrix product: few enough that no BLAS starts threads for them


class Block(NamedTuple):
    """Outputs start .. stop from inputs first .. last; high and low are (inputs, outputs) float32."""

    start: int
    stop: int
    first: int
    last: int
    high: np.ndarray
    low: np.ndarray


def resize(planes, height, width):
    """Resize planes of 8-bit values.

    Args:
        planes: (C, H, W) float32 whole numbers, 0 to 255.
        height, width: wanted.

    Returns:
        (C, height, width) float32 whole numbers, 0 to 255, what Pillow's `resize` with LANCZOS gives.
    """
    result = np.empty((len(planes), height, width), np.float32)
    steps = [(_along_rows, width), (_along_columns, height)]
    if columns_first(planes.shape[1:], (height, width)):
        steps.reverse()
    for plane, out in zip(planes, result, strict=True):
        for step, size in steps:
            plane = step(plane, size)
        out[:] = plane
    return result


def columns_first(size, new_size):
    """Return whether the Pillow installed weighs along columns first, by (height, width) before and after."""
    (height, width), (new_height, new_width) = size, new_size
    return not ONE_ORDER and height - new_height > max(0, 2 * (width - new_width))


def _along_rows(plane, width):
    if width == plane.shape[1]:
        return plane
    high, low = np.empty((2, plane.shape[0], width), np.float32)
    todo, most = blocks(plane.shape[1], width)
    for rows in _chunks(plane.shape[0], most):
        for block in todo:
            piece = plane[rows, block.first : block.last]
            np.matmul(piece, block.high, out=high[rows, block.start : block.stop])
            np.matmul(piece, block.low, out=low[rows, block.start : block.stop])
    return _rounded(high, low)


def _along_columns(plane, height):
    if height == plane.shape[0]:
        return plane
    high, low = np.empty((2, height, plane.shape[1]), np.float32)
    todo, most = blocks(plane.shape[0], height)
    for columns in _chunks(plane.shape[1], most):
        for block in todo:
            piece = plane[block.first : block.last, columns]
            np.matmul(block.high.T, piece, out=high[block.start : block.stop, columns])
            np.matmul(block.low.T, piece, out=low[block.start : block.stop, columns])
    return _rounded(high, low)


def _rounded(high, low):
    """Return the sums rounded half up and clipped to 0 .. 255: high + floor(low) / HALF (done in place)."""
    np.floor(low, out=low)
    low *= 1 / HALF
    low += high
    low += 0.5
    np.floor(low, out=low)
    return np.clip(low, 0, 255, out=low)


def _chunks(lines, most):
    return [slice(start, start + most) for start in range(0, lines, most)]


@functools.lru_cache(maxsize=64)
def blocks(size, new_size):
    """Return the `Block`s that take a line of `size` pixels to `new_size`, and for how many lines at once."""
    starts, rows = _coefficients(size, new_size)
    result = []
    for start in range(0, new_size, BLOCK):
        stop = min(start + BLOCK, new_size)
        first = min(starts[start:stop])
        last = max(at + len(row) for at, row in zip(starts[start:stop], rows[start:stop], strict=True))
        whole = np.zeros((last - first, stop - start), np.int64)
        for column in range(start, stop):
            at = starts[column] - first
            whole[at : at + len(rows[column]), column - start] = rows[column]
        high = whole >> (BITS // 2)
        low = whole - (high << (BITS // 2))
        result.append(Block(start, stop, first, last, np.float32(high / HALF), np.float32(low / HALF)))
    return result, max(16, PRODUCT // max(block.high.size for block in result))


def _coefficients(size, new_size):
    """Return for every output its first input and its whole-number coefficients, as Pillow computes them."""
    scale = size / new_size
    stretch = max(scale, 1.0)
    reach = LOBES * stretch
    starts, rows = [], []
    for out in range(new_size):
        centre = (out + 0.5) * scale
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), size)
        weights = [_window((at + first - centre + 0.5) * (1.0 / stretch)) for at in range(last - first)]
        total = sum(weights)
        rows.append([int(math.copysign(0.5, w) + w / total * (1 << BITS)) for w in weights])
        starts.append(first)
    return starts, rows


def _window(x):
    return _sinc(x) * _sinc(x / LOBES) if -LOBES <= x < LOBES else 0.0


def _sinc(x):
    return math.sin(x * math.pi) / (x * math.pi) if x else 1.0
