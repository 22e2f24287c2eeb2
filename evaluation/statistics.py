"""What a reviewer asks of a table: how sure its means are, whether two rows differ, and where the errors are.

Images are the units: a mean is over images, and resampling draws images (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13: percentile intervals). Free of torch.
"""

import math
from typing import NamedTuple

import numpy as np

from evaluation import METRICS

LEVEL = 0.95  # of the intervals
RESAMPLES = 10_000
DISTANCES = (0.0, 10.0, 20.0, 40.0, 80.0)  # metres: the borders of the bands of true depth
ROW_PARTS = 4  # equal parts of the image's height, from the top
EDGE_RATIO, EDGE_REACH = 1.25, 9  # near an edge: true depths within 9 x 9 pixels differ by more than this ratio
BANDS = (
    *(f"{near:g}-{far:g} m" for near, far in zip(DISTANCES, DISTANCES[1:], strict=False)),
    *(f"rows {part}/{ROW_PARTS}" for part in range(1, ROW_PARTS + 1)),
    "near depth edges", "away from edges",
)  # fmt: skip


class Comparison(NamedTuple):
    """Two sets of predictions on the same images, by one metric: `difference` of the means (second minus first), its
    interval `low`, `high`; images in which the second is `lower`, `higher`, equal; `p_value` of the sign test."""

    metric: str
    difference: float
    low: float
    high: float
    lower: int
    higher: int
    equal: int
    p_value: float


def bootstrap_interval(values, level=LEVEL, resamples=RESAMPLES, seed=0):
    """Return the interval of the mean by resampling images.

    Args:
        values: (N,) or (N, K), a row for each image.
        level: probability of the interval.
        resamples: how many times N images are drawn with replacement.
        seed: of the draws; the same seed draws the same images.

    Returns:
        (low, high), each a number or (K,).
    """
    values = np.asarray(values, np.float64)
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(0, len(values), len(values))].mean(0) for _ in range(resamples)]
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(means), (tail, 1 - tail), axis=0)
    return low, high


def sign_test(lower, higher):
    """Return the two-sided p-value that `lower` and `higher` are counts of a fair coin's two sides."""
    total, least = lower + higher, min(lower, higher)
    tail = sum(math.comb(total, count) for count in range(least + 1))
    return min(1.0, 2 * tail / 2**total)


def compare(first, second, metric="abs_rel"):
    """Return the `Comparison` of two lists of `ImageResult` for the same images; those without truth drop out."""
    index = METRICS.index(metric)
    pairs = [(a.errors[index], b.errors[index]) for a, b in zip(first, second, strict=True) if a.pixels and b.pixels]
    change = np.array([b - a for a, b in pairs])
    low, high = bootstrap_interval(change)
    lower, higher = int((change < 0).sum()), int((change > 0).sum())
    equal = len(change) - lower - higher
    return Comparison(metric, float(change.mean()), float(low), float(high), lower, higher, equal,
                      sign_test(lower, higher))  # fmt: skip


def intervals(results):
    """Return (low, high), each (7,), of the mean metrics of a list of `ImageResult`."""
    return bootstrap_interval([each.errors for each in results if each.pixels])


def near_edges(gt):
    """Return which pixels of a depth map (H, W), 0 where unknown, have known depths near by that differ much: bool."""
    import cv2

    window = np.ones((EDGE_REACH, EDGE_REACH), np.uint8)
    farthest = cv2.dilate(gt, window)
    nearest = cv2.erode(np.where(gt > 0, gt, np.float32(np.inf)), window)
    return farthest / EDGE_RATIO > nearest


def band_sums(gt, where, depth):
    """Return the errors of one image by band.

    Args:
        gt: (H, W) float32 true depth, 0 where unknown.
        where: (N,) flat indices of the pixels that count.
        depth: (N,) predicted depth there, aligned.

    Returns:
        (len(BANDS), 3) float64: pixels, sum of |error| / true depth, sum of squared error in square metres.
    """
    truth = gt.ravel()[where].astype(np.float64)
    error = depth.astype(np.float64) - truth
    columns = np.stack((np.ones_like(truth), np.abs(error) / truth, error**2), 1)
    height, width = gt.shape
    edge = near_edges(gt).ravel()[where]
    distance = np.searchsorted(DISTANCES, truth, side="left") - 1  # beyond the last border: in no band
    row = (where // width) * ROW_PARTS // height
    masks = [distance == band for band in range(len(DISTANCES) - 1)]
    masks += [row == part for part in range(ROW_PARTS)]
    return np.stack([columns[mask].sum(0) for mask in (*masks, edge, ~edge)])


def bands(results):
    """Return {band: (pixels, abs_rel, rmse)} over all pixels of all images; nan where a band has none."""
    sums = sum(each.bands for each in results if each.bands is not None)
    table = {}
    for name, (pixels, relative, squared) in zip(BANDS, sums, strict=True):
        table[name] = (int(pixels), relative / pixels, math.sqrt(squared / pixels)) if pixels else (0, *[math.nan] * 2)
    return table
