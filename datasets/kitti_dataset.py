"""KITTI as training data: raw drives with LiDAR, odometry sequences, and raw drives with improved depth maps.

Geiger et al., IJRR 2013 (raw, odometry); Uhrig et al., 3DV 2017 (improved depth).
"""

import functools
import os

import numpy as np

from datasets.images import read_depth_png
from datasets.mono_dataset import MonoDataset
from kitti_utils import (
    CAMERA_OF_SIDE,
    CAMERAS,
    calibration_folder,
    frame_path,
    generate_depth_map,
    improved_path,
    odometry_path,
    scan_path,
)
from system.errors import UserError

DEPTH_SIZE = (375, 1242)  # height and width of depth_gt: the commonest of KITTI's sizes


class KITTIDataset(MonoDataset):
    """What all of KITTI shares: one normalised camera for both sides and all days."""

    def intrinsics(self, folder):
        """Return the fixed normalised intrinsics that published KITTI models are trained with."""
        return np.array([[0.58, 0, 0.5, 0], [0, 1.92, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)


class KITTIRAWDataset(KITTIDataset):
    """KITTI raw drives; depth_gt from the LiDAR scans that exist, in the item's own camera."""

    def image_path(self, folder, frame, side):
        """Return <folder>/image_02|03/data/<frame, ten digits>."""
        return frame_path(self.data_path, folder, CAMERAS[side], frame, self.img_ext)

    def scan_path(self, folder, frame):
        """Return the LiDAR scan of a frame."""
        return scan_path(self.data_path, folder, frame)

    def has_depth(self):
        """Return whether any of the drives has a folder of scans."""
        return self._any_depth

    @functools.cached_property
    def _any_depth(self):
        return any(os.path.isdir(os.path.dirname(self.scan_path(folder, 0))) for folder in self.folders())

    def load_depth(self, line):
        """Return the (375, 1242) map of a line's scan, zeros without one."""
        scan = self.scan_path(line.folder, line.frame)
        if not os.path.isfile(scan):
            return np.zeros(DEPTH_SIZE, dtype=np.float32)
        calibration = calibration_folder(self.data_path, line.folder)
        return nearest(generate_depth_map(calibration, scan, CAMERA_OF_SIDE[line.side]), *DEPTH_SIZE)


class KITTIDepthDataset(KITTIRAWDataset):
    """KITTI raw drives with the improved depth maps of the depth benchmark as depth_gt."""

    def depth_path(self, folder, frame, side):
        """Return <folder>/proj_depth/groundtruth/image_02|03/<frame, ten digits>.png."""
        return improved_path(self.data_path, folder, frame, side)

    @functools.cached_property
    def _any_depth(self):
        folders = (os.path.dirname(self.depth_path(folder, 0, side)) for folder in self.folders() for side in CAMERAS)
        return any(map(os.path.isdir, folders))

    def load_depth(self, line):
        """Return the (375, 1242) improved map of a line, zeros without one."""
        path = self.depth_path(*line)
        if not os.path.isfile(path):
            return np.zeros(DEPTH_SIZE, dtype=np.float32)
        return nearest(read_depth_png(path), *DEPTH_SIZE)


class KITTIOdomDataset(KITTIDataset):
    """KITTI odometry sequences; no depth."""

    def image_path(self, folder, frame, side):
        """Return sequences/<two digits>/image_2|3/<frame, six digits>."""
        if not folder.isdigit():
            raise UserError("not an odometry sequence", f"'{folder}' in a split line", "give a number, 0 to 21")
        return odometry_path(self.data_path, int(folder), frame, side, self.img_ext)


def nearest(depth, height, width):
    """Return a map resized to the nearest pixel's value, so that zeros stay zeros."""
    if depth.shape == (height, width):
        return depth
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip((height, width), depth.shape, strict=True)
    )
    return depth[rows[:, None], columns]
