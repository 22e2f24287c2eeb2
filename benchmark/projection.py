"""The job of `benchmark.worker` that projects a made-up LiDAR scan of KITTI's size, from its files."""

import os

import numpy as np
import torch

from benchmark.plain import ground_truth
from cpu.allocator import keep_freed_memory
from kitti_utils import CALIBRATION, generate_depth_map

VERSIONS = ("plain", "fast")
POINTS = 120_000
CAMERA = """S_rect_02: 1242 375
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_02: 721.5 0 609.6 44.9 0 721.5 172.9 0.2 0 0 1 0.003
"""
VELODYNE = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.08 -0.27\n"


def write_scan(folder):
    """Write scan.bin and both calibration files: points all around, as dense as a sensor of 64 rings sees a street."""
    rng = np.random.default_rng(0)
    angle, lift = rng.uniform(-np.pi, np.pi, POINTS), rng.uniform(-0.4, 0.03, POINTS)
    reach = rng.uniform(4, 70, POINTS)
    points = np.stack((reach * np.cos(angle), reach * np.sin(angle), reach * lift, np.ones_like(reach)), 1)
    points.astype("<f4").tofile(os.path.join(folder, "scan.bin"))
    for name, text in zip(CALIBRATION, (CAMERA, VELODYNE), strict=True):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


def make(version, folder):
    """Return the function that projects the scan, and the device."""
    scan = os.path.join(folder, "scan.bin")
    if version == "plain":
        return lambda: ground_truth.generate_depth_map(folder, scan), torch.device("cpu")
    keep_freed_memory()
    return lambda: generate_depth_map(folder, scan, 2, True), torch.device("cpu")
