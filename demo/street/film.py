"""The street filmed by any camera: pictures and true depth through a `datasets.cameras.Camera`, distortion included.

The ray caster looks through grids of pinhole rays, so a dense pinhole picture of all that the camera sees is cast and
then sampled along the camera's own rays, found by inverting Brown's formula.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .drive import Drive

DENSITY = 1.5  # pixels of the pinhole picture to one of the camera, in the middle
SAMPLES = 2  # samples per pixel and axis
ITERATIONS = 200


class Pinhole(NamedTuple):
    """What the ray caster asks of a camera: size, and focal lengths and centre (x, y) in pixels."""

    width: int
    height: int
    focal: tuple
    centre: tuple


class Film:
    """Frames `0 .. frames - 1` of a drive, as a camera takes them.

    Args:
        camera: a `Camera` with its size.
        seed, frames, step: as `Drive`.
    """

    def __init__(self, camera, seed, frames, step=0.4):
        fine = camera.resized(SAMPLES * camera.width, SAMPLES * camera.height)
        x, y = slopes(fine)
        focal = DENSITY * camera.fx, DENSITY * camera.fy
        left, top = np.floor(focal[0] * x.min()) - 2, np.floor(focal[1] * y.min()) - 2
        size = (int(np.ceil(edge)) + 3 for edge in (focal[0] * x.max() - left, focal[1] * y.max() - top))
        rig = Pinhole(*size, focal, (-left, -top))
        self._drive = Drive(seed, frames, rig, step, samples=1)
        self._fine = _maps(rig, x, y)
        self._pixels = _maps(rig, *slopes(camera))
        self._size = camera.height, camera.width

    def picture(self, frame):
        """The photograph, (H, W, 3) uint8."""
        seen = cv2.remap(self._drive.picture(frame), *self._fine, cv2.INTER_LINEAR).astype(np.float32)
        height, width = self._size
        return np.rint(seen.reshape(height, SAMPLES, width, SAMPLES, 3).mean((1, 3))).astype(np.uint8)

    def depth(self, frame):
        """Depth in metres at every pixel's centre, to the nearest ray cast, (H, W) float32; infinite in the sky."""
        return cv2.remap(self._drive.depth(frame), *self._pixels, cv2.INTER_NEAREST)


def slopes(camera):
    """Return dX/dZ and dY/dZ of the rays of a camera's pixels, (H, W) float64 each: Brown's formula inverted.

    Raises:
        ValueError: the distortion folds the image, so that a pixel has no ray of its own.
    """
    u, v = np.meshgrid((np.arange(camera.width) - camera.cx) / camera.fx,
                       (np.arange(camera.height) - camera.cy) / camera.fy)  # fmt: skip
    k1, k2, p1, p2, k3 = camera.distortion or (0.0,) * 5
    x, y = u, v
    with np.errstate(all="ignore"):
        for _ in range(ITERATIONS if camera.is_distorted() else 1):
            r2 = x * x + y * y
            d = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
            aside = 2 * p1 * x * y + p2 * (r2 + 2 * x * x), p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
            before, (x, y) = (x, y), ((u - aside[0]) / d, (v - aside[1]) / d)
    if not max(np.abs(x - before[0]).max(), np.abs(y - before[1]).max()) < 1e-6:
        raise ValueError(f"the distortion {camera.distortion} folds images of {camera.width}x{camera.height}")
    return x, y


def _maps(rig, x, y):
    (fx, fy), (cx, cy) = rig.focal, rig.centre
    return (fx * x + cx).astype(np.float32), (fy * y + cy).astype(np.float32)
