"""A drive: one world, the path through it, and its pictures, depths and laser scans, frame by frame."""

import numpy as np

from . import camera, raycast, shading
from .street import Street

SCAN_STEP = 2  # the scanner samples every second row and column of the left picture, alternate rows shifted by one
SCAN_RANGE = 80.0  # metres


class Drive:
    """Frames `0 .. frames - 1` of a car driving through the street of a seed.

    Args:
        seed: of the world and of the path.
        frames: number of frames.
        rig: the cameras.
        step: metres driven from one frame to the next, on average.
        samples: rays per pixel and axis in pictures (depth uses the one through the pixel's centre).
    """

    def __init__(self, seed, frames, rig, step=0.4, samples=2):
        self.frames, self.rig, self.samples = frames, rig, samples
        self.street = Street(seed, frames * step)
        self.poses = _path(np.random.default_rng([78, seed]), self.street.road, frames, step)

    def world_from_camera(self, frame, side="l"):
        """Pose (4, 4) of the left ("l", image_02) or right ("r", image_03) camera."""
        return self.poses[frame] if side == "l" else camera.right_camera(self.poses[frame])

    def picture(self, frame, side="l"):
        """The photograph, (H, W, 3) uint8."""
        rays = raycast.Rays.through_pixels(self.rig, self.world_from_camera(frame, side), self.samples)
        colours = shading.shade(self.street, rays, *raycast.cast(self.street, rays))
        k, (h, w) = self.samples, (self.rig.height, self.rig.width)
        return np.rint(colours.reshape(h, k, w, k, 3).mean((1, 3)) * 255).astype(np.uint8)

    def depth(self, frame, side="l"):
        """Depth in metres at every pixel's centre, (H, W) float32; infinite in the sky."""
        rays = raycast.Rays.through_pixels(self.rig, self.world_from_camera(frame, side))
        inverse, _ = raycast.cast(self.street, rays)
        with np.errstate(divide="ignore"):
            return 1 / inverse

    def scan(self, frame):
        """A laser scan, (n, 4) float32: x forward, y left, z up in metres, and reflectance in [0, 1].

        The beams run along rays of the left camera, so that every point shows in that camera's picture.
        """
        depth = self.depth(frame)
        rows, columns = np.mgrid[: self.rig.height : SCAN_STEP, : self.rig.width - SCAN_STEP + 1 : SCAN_STEP]
        rows, columns = rows.ravel(), (columns + (rows // SCAN_STEP) % SCAN_STEP).ravel()
        depth = depth[rows, columns].astype(np.float64)
        near = depth < SCAN_RANGE
        rows, columns, depth = rows[near], columns[near], depth[near]
        (fx, fy), (cx, cy) = self.rig.focal, self.rig.centre
        points = np.stack([(columns - cx) / fx * depth, (rows - cy) / fy * depth, depth], 1)
        points = (points - camera.CAMERA_T_SCANNER) @ camera.CAMERA_R_SCANNER
        reflectance = np.clip(1 - depth / SCAN_RANGE, 0, 1)
        return np.column_stack([points, reflectance]).astype(np.float32)


def _path(rng, road, frames, step):
    """Poses (frames, 4, 4): right of the middle line with slow swerves, a changing speed, a little body motion."""
    number = np.arange(frames)
    waves = rng.uniform(0, 2 * np.pi, 5)
    travelled = np.concatenate([[0], np.cumsum(step * (1 + 0.15 * np.sin(number / 17 + waves[0])))[:-1]])
    aside = 0.35 + 0.35 * np.sin(travelled / 9 + waves[1])
    poses = []
    for index in number:
        place, heading = road.place(travelled[index], aside[index])
        swerve = 0.35 / 9 * np.cos(travelled[index] / 9 + waves[1])
        heading += swerve + 0.012 * np.sin(index / 5 + waves[2])
        pitch = 0.003 * np.sin(index / 4 + waves[3])
        height = camera.HEIGHT + 0.01 * np.sin(index / 3 + waves[4])
        poses.append(camera.pose(place, heading, pitch, height))
    return np.array(poses)
