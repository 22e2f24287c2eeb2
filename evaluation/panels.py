"""Single images of an evaluation to look at: photograph, true depth, prediction and error as small pictures.

Few images are predicted again, so that an evaluation holds no pictures while it runs. Pixels without a value are grey.
"""

from typing import NamedTuple

import numpy as np

from evaluation.metrics import aligned, counted
from evaluation.predictions import network_disparities, stored_disparities
from inference.colour import colour_disparity, colour_error, disparity_limits

WIDTH = 520  # pixels of a picture
GREY = (66, 68, 74)


class Panel(NamedTuple):
    """Pictures of one size, (h, w, 3) uint8: the photograph, or None; truth and prediction in one range of colours;
    the relative error of depth at the pixels that count."""

    photo: np.ndarray | None
    truth: np.ndarray
    prediction: np.ndarray
    error: np.ndarray


def panels(opt, evaluation, indices):
    """Yield a `Panel` for each of some images of an `Evaluation`.

    Args:
        opt: the options of the evaluation.
        indices: of the images; ground truth counts somewhere in each.
    """
    task, source = evaluation.task, evaluation.summary["predictions"]
    if opt.ext_disp_to_eval:
        every = stored_disparities(source, len(task.lines))
        disparities = (every[index] for index in indices)
    else:
        disparities, _ = network_disparities(opt, source, task.some(indices))
    for index, disparity in zip(indices, disparities, strict=True):
        yield panel(*task.look(index), disparity, task.protocol)


def panel(photo, gt, disparity, protocol):
    """Return the `Panel` of one image.

    Args:
        photo: (h, w, 3) uint8, or None.
        gt: (H, W) true depth in metres, 0 where unknown.
        disparity: (h, w) scaled disparity at any size.
        protocol: an `evaluation.metrics.Protocol`.
    """
    import cv2

    rows, columns = gt.shape if photo is None else photo.shape[:2]
    height = max(1, round(WIDTH * rows / columns))
    where = counted(gt, protocol)
    truth = gt.ravel()[where].astype(np.float64)
    at_points = cv2.resize(np.asarray(disparity, np.float32), gt.shape[::-1]).ravel()[where].astype(np.float64)
    met = aligned(truth, protocol.scale_factor / at_points, protocol.alignment, protocol.max_pred)
    # every alignment is a line between disparities: the one through the pixels that count serves the whole image
    scale, shift = np.polyfit(at_points, 1 / met, 1) if np.ptp(at_points) > 0 else (1 / met[0] / at_points[0], 0)
    depth = np.clip(met, protocol.min_pred, protocol.max_pred)
    shown = cv2.resize(np.asarray(disparity, np.float32), (WIDTH, height)) * scale + shift
    limits = disparity_limits(shown)
    known = np.flatnonzero(gt.ravel() > 0)
    small = photo if photo is None else cv2.resize(photo, (WIDTH, height), interpolation=cv2.INTER_AREA)
    return Panel(
        small,
        _scattered(colour_disparity(1 / gt.ravel()[known], limits), known, gt.shape, height),
        colour_disparity(shown, limits),
        _scattered(colour_error((depth - truth) / truth), where, gt.shape, height),
    )


def _scattered(colours, where, shape, height):
    """A picture (height, WIDTH, 3) of colours (N, 3) at flat indices of a map of `shape`, each with its neighbours."""
    rows, columns = np.divmod(where, shape[1])
    tall, wide = max(3, -(-height // shape[0])), max(3, -(-WIDTH // shape[1]))
    picture = np.full((height + tall, WIDTH + wide, 3), GREY, np.uint8)
    top, left = rows * height // shape[0], columns * WIDTH // shape[1]
    middle = tall // 2, wide // 2
    for down, right in sorted(np.ndindex(tall, wide), key=lambda place: place == middle):  # the point itself comes last
        picture[top + down, left + right] = colours
    return picture[middle[0] :, middle[1] :][:height, :WIDTH]
