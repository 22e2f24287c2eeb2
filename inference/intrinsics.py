"""Which camera an image was taken with, and where its pixels lie in space. Free of torch."""

import logging
import os

import numpy as np

from datasets.camera_files import read_camera
from datasets.cameras import Camera, fitted, from_fov
from datasets.frames_layout import CAMERA_FILE

KITTI = (0.58, 1.92, 0.5, 0.5)  # fx, cx over the width, fy, cy over the height: the intrinsics that training takes
LEVELS = 3  # folders above an image in which its camera file is looked for

log = logging.getLogger(__name__)


class Intrinsics:
    """The cameras of images: given, stored beside them, stored with the weights, or KITTI's for want of a better one.

    What is odd, and where a camera comes from, is said once in the log.

    Args:
        camera_file: a file as `datasets.camera_files.read_camera` reads it.
        fov: horizontal field of view in degrees instead.
        weights: folder that may hold camera.json.
    """

    def __init__(self, camera_file=None, fov=None, weights=None):
        self._given = read_camera(camera_file) if camera_file else None
        self._file, self._fov, self._weights, self._told = camera_file, fov, weights, set()

    def camera(self, image, width, height):
        """Return the `Camera` of an image file of width x height pixels."""
        if self._fov:
            self._tell(f"intrinsics: a field of view of {self._fov:g} degrees, which is rough")
            return from_fov(self._fov, width, height)
        found = (self._given, self._file) if self._given else self._stored(image)
        if found is None:
            self._tell("intrinsics: KITTI's, for want of a camera file; for another camera shapes come out wrong "
                       "(--camera_file, or --fov)")  # fmt: skip
            fx, fy, cx, cy = KITTI
            return Camera(fx * width, fy * height, cx * width, cy * height, width, height)
        camera, notices = fitted(found[0], width, height, found[1])
        self._tell(f"intrinsics: {found[1]}")
        for notice in notices:
            self._tell(notice)
        return camera

    def _stored(self, image):
        folder = os.path.dirname(os.path.abspath(image))
        places = [folder]
        for _ in range(LEVELS):
            places.append(os.path.dirname(places[-1]))
        for place in (*places, self._weights):
            path = place and os.path.join(place, CAMERA_FILE)
            if path and os.path.isfile(path):
                return read_camera(path), path
        return None

    def _tell(self, text):
        if text not in self._told:
            self._told.add(text)
            log.info(text)


def rays(camera, step=1):
    """Return the directions (x, y, 1) of the pixels, (H, W, 3) float32, of every `step`th row and column."""
    x, y = np.meshgrid(np.arange(0, camera.width, step), np.arange(0, camera.height, step))
    if camera.is_distorted():
        import cv2

        pixels = np.stack((x, y), -1).reshape(-1, 1, 2).astype(np.float64)
        straight = cv2.undistortPoints(pixels, camera.matrix(), np.array(camera.distortion)).reshape(*x.shape, 2)
        x, y = straight[..., 0], straight[..., 1]
    else:
        x, y = (x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy
    return np.stack((x, y, np.ones_like(x, dtype=np.float64)), -1).astype(np.float32)
