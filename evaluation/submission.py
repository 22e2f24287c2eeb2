"""What KITTI's depth prediction benchmark takes: a 16-bit PNG of metres times 256 for each image of its list.

Source: the devkit of the benchmark (Uhrig et al., 3DV 2017). 0 marks a pixel without a value, so none is written.
"""

import os
import re

import cv2
import numpy as np
import torch
from PIL import Image

from datasets.images import DEPTH_UNITS, planes, read_pixels
from datasets.splits import resolve_split
from evaluation import BENCHMARK, METRICS
from evaluation.task import Task, chosen_protocol
from system import files
from system.errors import UserError, from_os_error
from system.parallel import map_in_order

HOMES = ("depth_selection/test_depth_prediction_anonymous/image", "test_depth_prediction_anonymous/image", "image")
NAME = "{:010d}.png"  # of the benchmark's images, and of what is handed in


def benchmark_task(opt):
    """Return the `Task` of the benchmark's images; they have no ground truth, so it cannot score.

    Raises:
        UserError: images are missing.
    """
    lines = resolve_split(BENCHMARK).lines("test")
    paths = image_paths(opt.data_path, lines)

    def images(height, width):
        return lambda index: torch.from_numpy(planes(read_pixels(paths[index]), height, width)).div_(255)

    def look(index):
        return read_pixels(paths[index]), None

    return Task(BENCHMARK, ("folder", "frame"), lines, METRICS, chosen_protocol(opt, "eigen"), images, None, look)


def image_paths(data_path, lines):
    """Return the paths of the benchmark's images below the data path."""
    homes = [os.path.join(data_path, *home.split("/")) for home in HOMES]
    home = next((each for each in homes if os.path.isdir(each)), homes[0])
    paths = [os.path.join(home, NAME.format(int(line.split()[1]))) for line in lines]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise UserError(f"{len(missing)} of {len(paths)} images of the benchmark are missing", missing[0],
                        "unpack KITTI's data_depth_selection there")  # fmt: skip
    return paths


def check_folder(path):
    """Raise `UserError` unless a submission can take the place `path`: nothing, an empty folder or another submission.

    Links are refused, since the folder is replaced as a whole.
    """
    files.check_place(os.path.join(path, NAME.format(0)), "--submission")
    if os.path.islink(path):
        raise UserError("a link where a folder is to be written", f"--submission {path}", "name a new folder")
    try:
        names = os.listdir(path) if os.path.isdir(path) else ()
    except OSError as error:
        raise from_os_error(error, path) from error
    foreign = [name for name in names if not re.fullmatch(r"\d{10}\.png", name)]
    if foreign:
        raise UserError("a folder with other files", f"--submission {path}: {foreign[0]}", "name a new folder")


def write(path, task, disparities):
    """Write a submission, the folder whole or not at all.

    Args:
        path: the folder; an older submission there is replaced.
        task: a `benchmark_task`, whose scale factor and range of predictions count.
        disparities: iterable of (h, w) scaled disparities of its images, in order.

    Raises:
        UserError: a disparity is not finite and positive; the folder cannot be written.
    """
    with files.replacing_folder(path) as folder:

        def one(numbered):
            index, disparity = numbered
            photo, _ = task.look(index)
            name = NAME.format(int(task.lines[index].split()[1]))
            values = as_stored(disparity, photo.shape[:2], task.protocol, name)
            Image.fromarray(values).save(os.path.join(folder, name))

        for _ in map_in_order(one, enumerate(disparities)):
            pass


def as_stored(disparity, size, protocol, name="a map"):
    """Return depth as the benchmark stores it, (H, W) uint16.

    Args:
        disparity: (h, w) scaled disparity.
        size: (H, W) of the image.
        protocol: an `evaluation.metrics.Protocol`, whose scale factor and range of predictions count.

    Raises:
        UserError: the disparity is not finite and positive.
    """
    full = cv2.resize(np.asarray(disparity, np.float32), size[::-1])
    if not (np.isfinite(full).all() and full.min() > 0):
        raise UserError("these predictions are no depth", f"{name}: not finite and positive", "choose other weights")
    depth = np.clip(protocol.scale_factor / full, protocol.min_pred, protocol.max_pred)
    return np.maximum(np.rint(depth * DEPTH_UNITS), 1).astype(np.uint16)
