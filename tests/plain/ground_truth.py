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
