"""What is evaluated: the images, their ground truth and how a prediction is scored, for each data set."""

import functools
import os

import numpy as np
import torch

from datasets import KITTIRAWDataset
from datasets.images import read_rgb
from datasets.splits import IMPROVED_SPLITS, parse_line, resolve_split
from evaluation import BENCHMARK, METRICS, ground_truth, make3d, presence, submission
from evaluation.frames import frames_task
from evaluation.ground_truth_file import REBUILD, load_ground_truth
from evaluation.metrics import evaluate_images, has_ground_truth
from evaluation.task import Task, chosen_protocol
from kitti_utils import CAMERAS, frame_path
from system.errors import UserError

LOOK_SIZE = 320, 640  # height and width of Make3D's middle in pictures

def task_for(opt, tell=None):
    """Return the `Task` that the options ask for; `tell` as `evaluation.evaluate.evaluate` takes it.

    Raises:
        UserError: an unknown split, images that are missing.
    """
    if opt.eval_split == BENCHMARK:
        return submission.benchmark_task(opt)
    if opt.dataset == "frames":
        return frames_task(opt, tell)
    return make3d_task(opt) if opt.dataset == "make3d" else kitti_task(opt, tell)


def kitti_task(opt, tell):
    """Return the `Task` of a split of KITTI raw, or of data in its layout."""
    split = resolve_split(opt.eval_split)
    lines = split.lines("test")
    if not opt.ext_disp_to_eval:
        presence.check_images(opt.data_path, split, lines, opt.png)
        if not opt.no_eval:
            ground_truth.check(opt.data_path, split, lines)
    protocol = chosen_protocol(opt, "eigen_benchmark" if split.name in IMPROVED_SPLITS else "eigen")
    truths = functools.cache(lambda: _ground_truth(opt, split, lines, protocol, tell))

    def images(height, width):
        ending = ".png" if opt.png else ".jpg"
        dataset = KITTIRAWDataset(
            opt.data_path, lines, height, width, (0,), 1, img_ext=ending, keys=[("color", 0, 0)]
        )  # fmt: skip
        return lambda index: dataset[index]["color", 0, 0]

    def score(disparities, indices):
        return evaluate_images(truths(), disparities, protocol, with_bands=opt.statistics, indices=indices)

    def look(index):
        line = parse_line(lines[index])
        path = frame_path(opt.data_path, line.folder, CAMERAS[line.side], line.frame, ".png" if opt.png else ".jpg")
        return np.asarray(read_rgb(path)) if os.path.exists(path) else None, truths()[index]

    return Task(split.name, ("folder", "frame", "side"), lines, METRICS, protocol, images, score, look, truths)


def _ground_truth(opt, split, lines, protocol, tell):
    path = ground_truth.ground_truth_path(split)
    if not os.path.isfile(path):
        if tell:
            tell(f"{path} is missing: building it from {opt.data_path}")
        ground_truth.build(opt.data_path, split, lines, quiet=tell is None)
    truths = load_ground_truth(path, lines)
    if not any(has_ground_truth(truths[index], protocol) for index in range(len(lines))):
        raise UserError("no pixel of the ground truth counts", path, REBUILD)
    return truths


def make3d_task(opt):
    """Return the `Task` of the Make3D test images below the data path."""
    pairs = make3d.find_pairs(opt.data_path)
    limits = {"garg_crop": False, "min_gt": 0.0, "max_gt": make3d.MAX_DEPTH, "max_pred": make3d.MAX_DEPTH}
    protocol = chosen_protocol(opt, "eigen")._replace(**limits)

    def images(height, width):
        return lambda index: torch.from_numpy(
            make3d.read_middle(pairs[index].image, height, width, opt.make3d_interpolation)
        )

    def score(disparities, indices):
        return make3d.evaluate_images([pairs[index] for index in indices], disparities, protocol)

    def look(index):
        middle = make3d.read_middle(pairs[index].image, *LOOK_SIZE)
        return np.rint(255 * middle.transpose(1, 2, 0)).astype(np.uint8), make3d.read_depth(pairs[index].laser)

    names = [pair.name for pair in pairs]
    return Task("make3d", ("image",), names, make3d.METRICS, protocol, images, score, look)
