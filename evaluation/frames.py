"""Evaluation on folders of images and depth maps, in the layout of `datasets.frames_layout`."""

import os

import numpy as np
import torch

from datasets.frames_dataset import FramesDataset
from datasets.frames_layout import DEPTH, MAPS, image_folder, numbered_files, read_depth
from datasets.images import read_rgb
from datasets.splits import parse_lines, resolve_split
from evaluation import METRICS, presence
from evaluation.metrics import evaluate_images
from evaluation.task import Task, chosen_protocol
from system.errors import UserError

PROTOCOL = "full"  # unless another is asked for
LIST = "test_files.txt"
LAYOUT = "lay out SEQUENCE/frames/NUMBER.png or .jpg, and SEQUENCE/depth/NUMBER.png or .npz"


def frames_task(opt, tell):
    """Return the `Task` of the images below the data path that a list names, or that have a depth map.

    The list is that of --eval_split, else test_files.txt of the data path; where there is neither, all pairs are taken.

    Raises:
        UserError: there are no pairs, or files of the list are missing.
    """
    name, lines, split = _chosen(opt, tell)
    entries = parse_lines(lines, split.where("test") if split else "pair")
    maps = [_map_path(opt.data_path, line) for line in entries]
    dataset = FramesDataset(opt.data_path, lines, 32, 32, (0,), 1, keys=())
    paths = [dataset.image_path(line.folder, line.frame, line.side) for line in entries]
    if split and not opt.ext_disp_to_eval:
        presence.refuse_missing(paths, "images", opt.data_path, split, fix=LAYOUT)
    if not opt.no_eval and not any(maps):
        raise UserError("no image of the list has a depth map", f"{opt.data_path}: {lines[0]}", LAYOUT)
    truths = Maps(maps)
    protocol = chosen_protocol(opt, PROTOCOL)

    def images(height, width):
        data = FramesDataset(opt.data_path, lines, height, width, (0,), 1, keys=())
        return lambda index: torch.from_numpy(data.read_frame(index, 0)).div_(255)

    def score(disparities, indices):
        return evaluate_images(truths, disparities, protocol, with_bands=opt.statistics, indices=indices)

    def look(index):
        path = paths[index]
        return np.asarray(read_rgb(path)) if os.path.exists(path) else None, truths[index]

    return Task(name, ("folder", "frame", "side"), lines, METRICS, protocol, images, score, look)


def _chosen(opt, tell):
    """Return (name, lines, `Split` or None) of what is evaluated."""
    if opt.eval_split != "eigen":  # the default, which belongs to KITTI
        split = resolve_split(opt.eval_split)
        return split.name, split.lines("test"), split
    name = os.path.basename(os.path.abspath(opt.data_path))
    if os.path.isfile(os.path.join(opt.data_path, LIST)):
        split = resolve_split(opt.data_path)
        return name, split.lines("test"), split
    lines = find_pairs(opt.data_path)
    if tell:
        tell(f"{len(lines)} pairs of image and depth map found below {opt.data_path}")
    return name, lines, None


def find_pairs(data_path):
    """Return a line for each image below a folder that has a depth map, sorted by sequence and number.

    Raises:
        UserError: there is none.
    """
    lines = []
    for home, folders, _ in os.walk(data_path, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if DEPTH in folders:
            sequence = os.path.relpath(home, data_path)
            images, maps = numbered_files(image_folder(data_path, sequence, "l")), _maps_of(home)
            lines += [f"{sequence} {number} l" for number in sorted(images.keys() & maps.keys())]
    if not lines:
        raise UserError("no pairs of image and depth map", data_path, LAYOUT)
    return lines


def _maps_of(sequence):
    return numbered_files(os.path.join(sequence, DEPTH), MAPS)


def _map_path(data_path, line):
    """Return the path of a line's depth map; None where there is none: maps belong to the left images."""
    sequence = os.path.join(data_path, line.folder)
    name = _maps_of(sequence).get(line.frame) if line.side == "l" else None
    return name and os.path.join(sequence, DEPTH, name)


class Maps:
    """Depth maps as a sequence that reads one at a time; one without a file is a single unknown pixel."""

    def __init__(self, paths):
        self._paths = paths

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, index):
        path = self._paths[index]
        return read_depth(path) if path else np.zeros((1, 1), np.float32)
