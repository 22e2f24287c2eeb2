"""Make3D (Saxena et al., PAMI 2009) as self-supervised methods evaluate on it: 134 test images, no fine-tuning.

The protocol is that of Zhou et al. (CVPR 2017) and Godard et al. (ICCV 2019): the middle of each image, twice as wide
as high, goes through the network; predicted depth is resized to the laser's grid by the nearest neighbour, scaled by
the medians, and compared where true depth is below 70 m. Four metrics; the logarithm is of base 10. Free of torch.

Below the data path lie, as the data set is unpacked, Test134/img-<name>.jpg and
Gridlaserdata/depth_sph_corr-<name>.mat.
"""

import os
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets.images import read_rgb
from evaluation import MAKE3D_INTERPOLATIONS as INTERPOLATIONS
from evaluation.metrics import ImageResult, aligned
from system.errors import UserError
from system.files import refuse_unless_regular
from system.parallel import map_in_order

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log10")
IMAGES, LASER = "Test134", "Gridlaserdata"
IMAGE_SIZE, IMAGE_ROWS = (2272, 1704), (710, 1562)  # height and width; the rows of the middle, end exclusive
GRID_SIZE, GRID_ROWS = (55, 305), (17, 38)  # the same of the laser's grid
MAX_DEPTH = 70.0  # metres


class Pair(NamedTuple):
    """One test image: its name, the paths of the image and of the laser's grid."""

    name: str
    image: str
    laser: str


def find_pairs(data_path):
    """Return the `Pair`s below the data path, by name.

    Raises:
        UserError: there are no images, or laser files are missing.
    """
    folder = os.path.join(data_path, IMAGES)
    found = os.listdir(folder) if os.path.isdir(folder) else []
    names = sorted(name[4:-4] for name in found if name.startswith("img-") and name.lower().endswith(".jpg"))
    if not names:
        raise UserError("no Make3D images", os.path.join(folder, "img-*.jpg"), f"unpack {IMAGES} and {LASER} there")
    laser = os.path.join(data_path, LASER)
    pairs = [Pair(name, os.path.join(folder, f"img-{name}.jpg"), os.path.join(laser, f"depth_sph_corr-{name}.mat"))
             for name in names]  # fmt: skip
    missing = [pair.laser for pair in pairs if not os.path.exists(pair.laser)]
    if missing:
        raise UserError(f"{len(missing)} of {len(pairs)} laser files are missing", missing[0], f"unpack {LASER} there")
    return pairs


def read_depth(path):
    """Return the true depth of the middle of an image, (21, 305) float64 metres.

    Raises:
        UserError: the file is missing, damaged, or holds another grid.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    refuse_unless_regular(path, f"unpack {LASER} again")
    try:
        grid = np.asarray(loadmat(path, variable_names=["Position3DGrid"])["Position3DGrid"])
    except FileNotFoundError:
        raise UserError("missing laser file", path, f"unpack {LASER} there") from None
    except (MatReadError, ValueError, LookupError, TypeError, OSError, NotImplementedError, EOFError, zlib.error,
            MemoryError, OverflowError) as error:  # fmt: skip
        raise UserError("not a Make3D laser file", f"{path}: {error}", f"unpack {LASER} again") from None
    if grid.ndim != 3 or grid.shape[:2] != GRID_SIZE or grid.shape[2] < 4 or grid.dtype.kind not in "fiu":
        raise UserError("a laser grid of another form", f"{path}: {grid.dtype} {grid.shape}", "it has 55 x 305 x 4")
    return grid[slice(*GRID_ROWS), :, 3].astype(np.float64)


def read_middle(path, height, width, interpolation="lanczos"):
    """Return the middle of an image as networks take it, (3, height, width) float32 in [0, 1].

    Args:
        path: a Make3D image, upright.
        interpolation: one of INTERPOLATIONS, by which it is resized.

    Raises:
        UserError: the image is missing, damaged, or of another shape.
    """
    image = read_rgb(path)
    if abs(image.height * IMAGE_SIZE[1] - image.width * IMAGE_SIZE[0]) > IMAGE_SIZE[0]:
        raise UserError("a Make3D image of another shape", f"{path}: {image.width}x{image.height}",
                        f"the images have {IMAGE_SIZE[1]}x{IMAGE_SIZE[0]}")  # fmt: skip
    top, bottom = (round(row * image.height / IMAGE_SIZE[0]) for row in IMAGE_ROWS)
    middle = image.crop((0, top, image.width, bottom))
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}")
    resized = middle.resize((width, height), Image.Resampling[interpolation.upper()])
    return np.asarray(resized, np.float32).transpose(2, 0, 1) / 255


def compute_errors(gt, pred):
    """Compare depths pixel by pixel: returns the numbers that METRICS name, of true and predicted depth (N,) each."""
    difference = gt - pred
    return (
        float(np.mean(np.abs(difference) / gt)),
        float(np.mean(difference**2 / gt)),
        float(np.sqrt(np.mean(difference**2))),
        float(np.sqrt(np.mean((np.log10(gt) - np.log10(pred)) ** 2))),
    )


def evaluate_image(gt, disparity, protocol):
    """Score one prediction.

    Args:
        gt: (21, 305) true depth in metres.
        disparity: (h, w) scaled disparity of the image's middle, positive.
        protocol: an `evaluation.metrics.Protocol`, of which the alignment and the scale factor count.

    Returns:
        An `ImageResult` with the four metrics.

    Raises:
        ValueError: the disparity is not finite and positive.
    """
    import cv2

    if not (np.isfinite(disparity).all() and np.min(disparity) > 0):
        raise ValueError("the disparity is not finite and positive everywhere")
    depth = 1 / np.asarray(disparity, np.float32)
    depth = cv2.resize(depth, gt.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.float64)
    counts = (gt > 0) & (gt < MAX_DEPTH)
    if not counts.any():
        return ImageResult((np.nan,) * len(METRICS), np.nan, 0)
    truth, depth = gt[counts], depth[counts] * protocol.scale_factor
    ratio = float(np.median(truth) / np.median(depth))
    depth = np.minimum(aligned(truth, depth, protocol.alignment), MAX_DEPTH)
    return ImageResult(compute_errors(truth, depth), ratio, int(counts.sum()))


def evaluate_images(pairs, disparities, protocol, workers=None):
    """Yield `evaluate_image` for each `Pair` and disparity, in order, in threads."""

    def score(pair_and_disparity):
        pair, disparity = pair_and_disparity
        try:
            return evaluate_image(read_depth(pair.laser), disparity, protocol)
        except ValueError as error:
            raise ValueError(f"{pair.name}: {error}") from error

    yield from map_in_order(score, zip(pairs, disparities, strict=True), workers)
