"""How much neighbouring frames differ: dense optical flow (DIS, Kroeger et al., ECCV 2016) and what follows from it.

Flow is computed on grey images `FLOW_WIDTH` pixels wide and told in pixels of images `TOLD_WIDTH` wide, the usual width
of training images, so that thresholds mean the same for every video.
"""

from typing import NamedTuple

import cv2
import numpy as np

FLOW_WIDTH = 320
TOLD_WIDTH = 640
OTHER_SCENE = 0.45  # likeness below which two frames show different scenes; within one, neighbours reach 0.6 and more
GRID = 8  # pixels between the points to which a homography is fitted
FLAT = 1e-3  # variance of details, in grey levels squared, below which there is nothing to compare
PLANE_ERROR = 0.5  # pixels of the flow image


class Change(NamedTuple):
    """From one frame to another: median length of the flow in pixels; likeness, 1 for the same scene, 0 for another."""

    motion: float
    likeness: float


def small_grey(image):
    """Return an image (H, W, 3) uint8 as the (h, FLOW_WIDTH) grey image that flow is computed on."""
    height = max(32, round(image.shape[0] * FLOW_WIDTH / image.shape[1]))
    return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA)


def flow(first, second):
    """Return the (h, w, 2) float32 flow from one grey image to another, in their pixels."""
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)


def change(first, second):
    """Return the `Change` between two grey images of one size."""
    field = flow(first, second)
    rows, columns = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    back = cv2.remap(second, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR)
    motion = float(np.median(np.hypot(field[..., 0], field[..., 1]))) * TOLD_WIDTH / first.shape[1]
    return Change(motion, correlation(first, back))


def correlation(first, second):
    """Return the correlation of two images' details; exposure does not count, nor the bright sky that streets share."""
    first, second = _details(first), _details(second)
    scale = float(np.sqrt((first**2).mean() * (second**2).mean()))
    return float((first * second).mean()) / scale if scale > FLAT else 1.0


def _details(image):
    image = image.astype(np.float32)
    details = cv2.blur(image, (3, 3)) - cv2.blur(image, (21, 21))
    return details - details.mean()


def plane_share(first, second):
    """Return the share of the flow that one homography explains: near 1 for a camera that only turns, or a plane."""
    field = flow(first, second)
    rows, columns = np.mgrid[GRID : first.shape[0] - GRID : GRID, GRID : first.shape[1] - GRID : GRID]
    rows, columns = rows.ravel(), columns.ravel()
    source = np.stack([columns, rows], 1).astype(np.float32)
    cv2.setRNGSeed(0)
    _, inside = cv2.findHomography(source, source + field[rows, columns], cv2.RANSAC, PLANE_ERROR)
    return 0.0 if inside is None else float(inside.mean())
