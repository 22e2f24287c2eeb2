"""One factor from a network's depth to metres, from what is known about a scene. Free of torch.

Each function returns the factor of one image, or nan where the image does not tell. `combined` takes their median.
Depth is along the optical axis; `predicted` is a network's depth (H, W) in its own unit at the image's size.
"""

import numpy as np

from checkpointing.metric_scale import MetricScale
from inference.intrinsics import rays
from system.errors import UserError

STEREO_UNIT = 0.1  # the baseline that training with stereo pairs assumes, in the network's unit
LEAST_PIXELS = 50  # of a map or a road below which an image does not count
MAD_TO_DEVIATION = 1.4826  # of normally distributed numbers

ROAD_ROWS, ROAD_COLUMNS = 0.65, (0.2, 0.8)  # where a road is looked for: below the first, between the others
LARGEST_TILT = 0.35  # radians between the road's normal and the one expected
USUAL_TILT = 0.08  # radians at which a plane counts half: networks bend the far road up, and a tilted plane follows it
ROAD_TOLERANCE = 0.04  # of the height: how far a point of the road may lie from the plane
LEAST_ROAD = 0.2  # share of the points looked at that have to lie in the plane
TRIALS, ROAD_POINTS = 400, 4000

STEREO_DISPARITIES = 128  # pixels of an image 640 wide: the nearest is about 1.5 m at KITTI's baseline
STEREO_LEAST = 3.0  # pixels of disparity: a smaller one is too coarse a measure


def by_pixels(predicted, camera, pixels, along_axis=False):
    """From pixels of known distance.

    Args:
        pixels: [(x, y, metres)]; metres from the camera to the point, as a tape tells them, or with `along_axis` depth.
        camera: a `Camera`; None with `along_axis`.

    Returns:
        The median ratio.

    Raises:
        UserError: a pixel lies outside the image.
    """
    height, width = predicted.shape
    lengths = None if along_axis else np.linalg.norm(rays(camera), axis=-1)
    ratios = []
    for x, y, metres in pixels:
        column, row = round(x), round(y)
        if not (0 <= column < width and 0 <= row < height):
            raise UserError("a pixel outside the image", f"{x:g} {y:g} of {width}x{height}", "count x from the left, "
                            "y from the top")  # fmt: skip
        depth = metres if along_axis else metres / lengths[row, column]
        ratios.append(depth / predicted[row, column])
    return float(np.median(ratios))


def by_map(predicted, truth):
    """From a map of true depth (h, w) in metres, 0 or infinite where unknown: the ratio of the medians."""
    import cv2

    known = np.isfinite(truth) & (truth > 0)
    if known.sum() < LEAST_PIXELS:
        return np.nan
    with np.errstate(divide="ignore"):
        depth = 1 / cv2.resize(1 / predicted, truth.shape[::-1])
    return float(np.median(truth[known]) / np.median(depth[known]))


def by_camera_height(predicted, camera, metres, pitch=0.0, seed=0):
    """From the camera's height above a flat road, whose plane RANSAC finds (Fischler and Bolles, CACM 1981).

    Args:
        metres: the camera's height.
        pitch: by how much the camera looks down, radians; planes near what follows from it are preferred.

    Returns:
        metres over the predicted height; nan where no road is found.
    """
    height, width = predicted.shape
    rows, columns = slice(int(ROAD_ROWS * height), None), slice(*(int(part * width) for part in ROAD_COLUMNS))
    near = np.where(np.isfinite(predicted), predicted, 0)[rows, columns, None]
    points = (near * rays(camera)[rows, columns]).reshape(-1, 3).astype(np.float64)
    rng = np.random.default_rng(seed)
    points = points[rng.permutation(len(points))[:ROAD_POINTS]]
    plane = _road(points, np.array([0, np.cos(pitch), np.sin(pitch)]), rng)
    return np.nan if plane is None else metres / plane


def _road(points, down, rng):
    """Return the distance of the road's plane among points (N, 3) from the camera; None where there is none.

    Of the planes through three points it is the one with the largest share of points in it, over 1 + (tilt / usual)^2
    where the tilt is the angle from `down`, its normal as expected, (3,).
    """
    triples = points[rng.integers(0, len(points), (TRIALS, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals[lengths > 0] / lengths[lengths > 0, None]
    distances = np.einsum("ij,ij->i", normals, triples[lengths > 0, 0])
    normals, distances = normals * np.sign(distances)[:, None], np.abs(distances)
    tilts = np.arccos(np.clip(normals @ down, -1, 1))
    flat = (tilts < LARGEST_TILT) & (distances > 0)
    normals, distances, tilts = normals[flat], distances[flat], tilts[flat]
    if not len(normals):
        return None
    inside = np.abs(normals @ points.T - distances[:, None]) < ROAD_TOLERANCE * distances[:, None]
    best = (inside.sum(1) / (1 + (tilts / USUAL_TILT) ** 2)).argmax()
    chosen = inside[best]
    if chosen.mean() < LEAST_ROAD or chosen.sum() < LEAST_PIXELS:
        return None
    for _ in range(3):  # least squares over what lies in the plane: n . X / d = 1
        scaled, *_ = np.linalg.lstsq(points[chosen], np.ones(chosen.sum()), rcond=None)
        distance = 1 / np.linalg.norm(scaled)
        chosen = np.abs(points @ scaled - 1) < ROAD_TOLERANCE
        if chosen.sum() < LEAST_PIXELS:
            return None
    return distance


def by_stereo(predicted, camera, left, right, baseline):
    """From a rectified stereo pair: depth by semi-global matching (Hirschmueller, PAMI 2008) against the prediction.

    Args:
        left, right: (H, W, 3) uint8; the prediction is the left one's. baseline: metres between the cameras.
    """
    import cv2

    height, width = predicted.shape
    most = int(np.ceil(STEREO_DISPARITIES * width / 640 / 16)) * 16
    block = {"blockSize": 5, "P1": 8 * 3 * 25, "P2": 32 * 3 * 25, "uniquenessRatio": 10, "disp12MaxDiff": 1}
    matcher = cv2.StereoSGBM_create(minDisparity=0, numDisparities=most, speckleWindowSize=50, speckleRange=2, **block)
    disparity = matcher.compute(np.ascontiguousarray(left), np.ascontiguousarray(right)) / 16
    known = disparity >= STEREO_LEAST
    truth = np.where(known, camera.fx * baseline / np.where(known, disparity, 1), 0)
    return by_map(predicted, truth)


def by_training_baseline(baseline):
    """Of weights trained with stereo pairs, whose unit is known: metres of the rig's baseline over its 0.1."""
    return baseline / STEREO_UNIT


def combined(factors, method):
    """Return the `MetricScale` of the images' factors: their median, and its spread by the median deviation.

    Raises:
        UserError: no image tells.
    """
    known = np.array([each for each in factors if np.isfinite(each)])
    if not len(known):
        raise UserError("no image tells the scale", method, "give other images, or another way to measure")
    factor = float(np.median(known))
    spread = None if len(known) < 2 else float(MAD_TO_DEVIATION * np.median(np.abs(known / factor - 1)))
    return MetricScale(factor, spread, len(known), method)
