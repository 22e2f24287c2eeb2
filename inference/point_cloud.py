"""Depth as coloured points: binary PLY files, of an image or of a whole sequence with poses. Free of torch.

Points are in the camera's axes (x right, y down, z forward), those of a sequence in the axes of its poses.
"""

import numpy as np

from inference.intrinsics import rays
from system import files

VERTEX = np.dtype([(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")])
EDGE = 0.1  # relative: pixels whose depth differs more from a neighbour's lie on an edge, between two things
COUNT_DIGITS = 12


def points_of(image, depth, camera, limits=None, step=1):
    """Return the points of an image as an array of `VERTEX`; pixels on edges of depth are left out.

    Args:
        image: (H, W, 3) uint8. depth: (H, W) float32. camera: a `Camera` of this size.
        limits: (nearest, farthest) depth to keep; without, all.
        step: every so manyth row and column.
    """
    kept = ~_on_edge(depth)
    if limits:
        kept &= (depth >= limits[0]) & (depth <= limits[1])
    kept, depth, image = kept[::step, ::step], depth[::step, ::step], image[::step, ::step]
    points = np.empty(int(kept.sum()), VERTEX)
    places = (depth[..., None] * rays(camera, step))[kept]
    for index, axis in enumerate("xyz"):
        points[axis] = places[:, index]
    for index, name in enumerate(("red", "green", "blue")):
        points[name] = image[..., index][kept]
    return points


def _on_edge(depth):
    edge = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        first, second = (np.take(depth, range(start, depth.shape[axis] - 1 + start), axis) for start in (0, 1))
        steep = np.abs(first - second) > EDGE * np.minimum(first, second)
        for start in (0, 1):
            part = [slice(None)] * 2
            part[axis] = slice(start, depth.shape[axis] - 1 + start)
            edge[tuple(part)] |= steep
    return edge


def moved(points, pose):
    """Return points in the axes that a pose, (4, 4) world_T_camera, leads to."""
    places = np.stack([points[axis] for axis in "xyz"], -1).astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    points = points.copy()
    for index, axis in enumerate("xyz"):
        points[axis] = places[:, index]
    return points


def write_cloud(path, parts):
    """Write an iterable of arrays of `VERTEX` as one binary .ply, whole or not at all; return the number of points."""
    count = 0
    with files.replacing(path) as file:
        file.write(_header(0))
        for points in parts:
            file.write(points.tobytes())
            count += len(points)
        file.seek(0)
        file.write(_header(count))
    return count


def _header(count):
    """A header whose length does not depend on the count."""
    lines = ["ply", "format binary_little_endian 1.0", f"comment {'':-<{COUNT_DIGITS - len(str(count))}}",
             f"element vertex {count}"]  # fmt: skip
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
    return "".join(f"{line}\n" for line in (*lines, "end_header")).encode()
