"""A LiDAR scan projected into a camera, key by key."""

from collections import Counter

import numpy as np


def depth_map(points, P, height, width):
    """Return (height, width) forward distances of points (N, 4) in the velodyne's frame; P projects them, (3, 4)."""
    points = points[points[:, 0] >= 0]
    pixels = (P @ points.T).T
    pixels[:, :2] = pixels[:, :2] / pixels[:, 2:]
    pixels[:, :2] = np.round(pixels[:, :2]) - 1
    inside = (pixels[:, 0] >= 0) & (pixels[:, 1] >= 0) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    column, row = pixels[inside, 0].astype(int), pixels[inside, 1].astype(int)
    value = points[inside, 0]
    depth = np.zeros((height, width))
    depth[row, column] = value
    keys = row * (width - 1) + column - 1
    for key, count in Counter(keys).items():
        if count > 1:
            same = np.where(keys == key)[0]
            depth[row[same[0]], column[same[0]]] = value[same].min()
    depth[depth < 0] = 0
    return depth


def generate_depth_map(calibration, scan):
    """Return the map of a scan's file seen by camera 2, with the calibration read from its files each time."""
    cameras, velodyne = (read(f"{calibration}/{name}") for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"))
    to_camera, to_rectified = np.eye(4), np.eye(4)
    to_camera[:3] = np.column_stack((velodyne["R"].reshape(3, 3), velodyne["T"]))
    to_rectified[:3, :3] = cameras["R_rect_00"].reshape(3, 3)
    P = cameras["P_rect_02"].reshape(3, 4) @ to_rectified @ to_camera
    width, height = cameras["S_rect_02"].astype(int)
    points = np.fromfile(scan, dtype=np.float32).reshape(-1, 4)
    points[:, 3] = 1
    return depth_map(points, P, height, width)


def read(path):
    """Return {name: numbers} of a calibration file whose lines all hold numbers."""
    with open(path) as file:
        entries = (line.split(":") for line in file)
        return {name: np.array([float(word) for word in numbers.split()]) for name, numbers in entries}
