"""Depth metrics, and the protocol that applies them to images (Eigen et al., NIPS 2014; Garg et al., ECCV 2016).

Disparity here is scaled disparity, the inverse of depth before any scaling; depths are metres. Free of torch.
"""

from typing import NamedTuple

import numpy as np

from evaluation import ALIGNMENTS, METRICS, PROTOCOLS
from evaluation.statistics import band_sums
from system.parallel import map_in_order

MIN_DEPTH = 1e-3  # metres: nearer ground truth is ignored, nearer predictions are clamped
MAX_DEPTH = 80.0  # metres: the same at the far end, the range of KITTI's laser scanner
FARTHEST = 1e4  # metres: the far end of predictions where nothing else sets one
STEREO_SCALE = 5.4  # KITTI's stereo baseline is 0.54 m, the networks train with 0.1
_GARG_ROWS = (0.40810811, 0.99189189)  # Garg et al.'s crop, as fractions of the height ...
_GARG_COLUMNS = (0.03594771, 0.96405229)  # ... and of the width
_DELTA = 1.25  # the ratio below which a pixel counts for a1; its powers for a2 and a3


class Protocol(NamedTuple):
    """How predictions meet ground truth.

    garg_crop: count only the pixels inside Garg's crop.
    min_gt, max_gt: ground truth counts strictly between these depths, in metres.
    alignment: what makes each prediction meet its ground truth, over the pixels that count, one of ALIGNMENTS:
        median: multiply by median(ground truth) / median(prediction).
        scale: multiply by the factor with the least squared error of depth.
        scale_shift: the scale and shift of disparity with the least squared error of disparity (Ranftl et al., 2020).
        none: as predicted.
    scale_factor: multiply all predictions by this first.
    min_pred, max_pred: aligned predictions are clamped to these depths, in metres.
    """

    garg_crop: bool = True
    min_gt: float = MIN_DEPTH
    max_gt: float = MAX_DEPTH
    alignment: str = "median"
    scale_factor: float = 1.0
    min_pred: float = MIN_DEPTH
    max_pred: float = MAX_DEPTH

    @classmethod
    def for_improved_maps(cls, **settings):
        """Return the protocol of KITTI's improved (accumulated) depth maps: every known pixel, no crop."""
        return cls(garg_crop=False, min_gt=0.0, max_gt=np.inf, **settings)

    @classmethod
    def named(cls, name, **settings):
        """Return one of PROTOCOLS.

        Args:
            name: eigen (Garg's crop, up to 80 m), eigen_50m (the same up to 50 m: Garg et al.), eigen_benchmark
                (KITTI's improved maps: all that is known, predictions up to 80 m), indoor (no crop, up to 10 m, the
                range of NYU Depth v2's sensor), full (no crop, no limit but `FARTHEST` for predictions).
            settings: `alignment`, `scale_factor`.
        """
        if name not in PROTOCOLS:
            raise ValueError(f"the protocol is one of {', '.join(PROTOCOLS)}, not {name!r}")
        if name == "eigen_50m":
            return cls(max_gt=50.0, max_pred=50.0, **settings)
        if name == "eigen_benchmark":
            return cls.for_improved_maps(**settings)
        if name == "indoor":
            return cls(garg_crop=False, max_gt=10.0, max_pred=10.0, **settings)
        if name == "full":
            return cls(garg_crop=False, min_gt=0.0, max_gt=np.inf, max_pred=FARTHEST, **settings)
        return cls(**settings)


class ImageResult(NamedTuple):
    """One image: `errors` in METRICS' order and the `ratio` of medians, nan if no pixel counts; `pixels` that count;
    where asked for, `bands`: `statistics.band_sums`."""

    errors: tuple
    ratio: float
    pixels: int
    bands: np.ndarray | None = None


def compute_errors(gt, pred):
    """Compare depths pixel by pixel.

    Args:
        gt: (N,) true depths in metres, positive.
        pred: (N,) predicted depths in metres, positive.

    Returns:
        The seven numbers named by METRICS, d being gt - pred: the means of |d| / gt and of d^2 / gt, the roots of the
        means of d^2 and of (log gt - log pred)^2, and the fractions of pixels with max(gt / pred, pred / gt) below
        1.25, 1.25^2, 1.25^3.

    Source: Eigen, Puhrsch and Fergus, NIPS 2014, section 4.1.
    """
    worst = np.maximum(gt / pred, pred / gt)
    difference = gt - pred
    squared = difference**2
    return (
        np.mean(np.abs(difference) / gt),
        np.mean(squared / gt),
        np.sqrt(np.mean(squared)),
        np.sqrt(np.mean((np.log(gt) - np.log(pred)) ** 2)),
        *(np.mean(worst < _DELTA**power) for power in (1, 2, 3)),
    )


def garg_window(height, width):
    """Return (top, bottom, left, right) of Garg's crop in pixels, ends exclusive."""
    return *(int(part * height) for part in _GARG_ROWS), *(int(part * width) for part in _GARG_COLUMNS)


def counted(gt, protocol):
    """Return the flat indices of the pixels of a depth map (H, W) that count, in row order."""
    top, bottom, left, right = garg_window(*gt.shape) if protocol.garg_crop else (0, gt.shape[0], 0, gt.shape[1])
    window = gt[top:bottom, left:right]
    rows, columns = np.nonzero((window > protocol.min_gt) & (window < protocol.max_gt))
    return (rows + top) * gt.shape[1] + (columns + left)


def has_ground_truth(gt, protocol):
    """Whether any pixel of a depth map counts."""
    return len(counted(gt, protocol)) > 0


def evaluate_image(gt, disparity, protocol, with_bands=False):
    """Score one prediction.

    Args:
        gt: (H, W) float32 true depth in metres, 0 where unknown.
        disparity: (h, w) float32 scaled disparity, positive, at any size; it is resized to the ground truth's.
        protocol: a `Protocol`.
        with_bands: also sum the errors by distance, row and nearness to edges.

    Returns:
        An `ImageResult`; its ratio is that of the medians, also where it is not applied.

    Raises:
        ValueError: the disparity is not finite and positive wherever ground truth counts.
    """
    import cv2

    where = counted(gt, protocol)
    if not len(where):
        return ImageResult((np.nan,) * len(METRICS), np.nan, 0)
    height, width = gt.shape
    at_points = cv2.resize(np.asarray(disparity, np.float32), (width, height)).ravel()[where]
    if not (np.isfinite(at_points).all() and at_points.min() > 0):
        raise ValueError("the disparity is not finite and positive everywhere")
    truth, depth = gt.ravel()[where], 1 / at_points
    depth *= protocol.scale_factor
    ratio = np.median(truth) / np.median(depth)
    met = aligned(truth, depth, protocol.alignment, protocol.max_pred)
    depth = np.clip(met, protocol.min_pred, protocol.max_pred)
    errors = compute_errors(truth, depth)
    sums = band_sums(gt, where, depth) if with_bands else None
    return ImageResult(tuple(float(error) for error in errors), float(ratio), len(where), sums)


def aligned(truth, depth, alignment, farthest=MAX_DEPTH):
    """Return predicted depth (N,), aligned to true depth (N,) in the way that `Protocol` describes.

    What a shift of disparity puts behind the camera is `farthest` metres away.
    """
    if alignment not in ALIGNMENTS:
        raise ValueError(f"the alignment is one of {', '.join(ALIGNMENTS)}, not {alignment!r}")
    if alignment == "median":
        return depth * (np.median(truth) / np.median(depth))
    if alignment == "scale":
        wide = depth.astype(np.float64)
        return depth * float(truth @ wide / (wide @ wide))
    if alignment == "scale_shift":
        disparity, target = 1 / depth.astype(np.float64), 1 / truth.astype(np.float64)
        centred = disparity - disparity.mean()
        spread = centred @ centred
        scale = centred @ target / spread if spread > 0 else 0.0
        fitted = scale * centred + target.mean()
        return (1 / np.maximum(fitted, 1 / farthest)).astype(depth.dtype)
    return depth


def evaluate_images(ground_truth, disparities, protocol, workers=None, with_bands=False, indices=None):
    """Score predictions in parallel threads, holding only a few images at a time.

    Args:
        ground_truth: sequence of (H, W) float32 arrays; an item is only asked for when its turn comes.
        disparities: iterable of (h, w) float32 arrays in the same order; consumed as the scoring goes.
        protocol: a `Protocol`.
        workers: number of threads; by default one per core, eight at most.
        with_bands: as `evaluate_image`.
        indices: which of the ground truth the disparities belong to; without, all from the first.

    Yields:
        An `ImageResult` for each disparity, in order.

    Raises:
        ValueError: as `evaluate_image`, naming the image by its index from 0.
    """

    def score(numbered):
        index, disparity = numbered
        try:
            return evaluate_image(ground_truth[index], disparity, protocol, with_bands)
        except ValueError as error:
            raise ValueError(f"image {index}: {error}") from error

    numbered = enumerate(disparities) if indices is None else zip(indices, disparities, strict=True)
    yield from map_in_order(score, numbered, workers)


def mean_errors(results):
    """Return the (7,) mean of the results' errors over the images in which any pixel counts; nan if there is none."""
    rows = [result.errors for result in results if result.pixels]
    return np.mean(rows, axis=0) if rows else np.full(len(METRICS), np.nan)


def ratio_statistics(results):
    """Return (median, relative standard deviation) of the images' median ratios; nan if there is none."""
    ratios = np.array([result.ratio for result in results if result.pixels])
    if not len(ratios):
        return np.nan, np.nan
    middle = np.median(ratios)
    return float(middle), float(np.std(ratios / middle))
