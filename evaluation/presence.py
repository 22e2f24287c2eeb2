"""Whether the files that an evaluation will read are there: asked before the long work starts. Free of torch."""

import os

from checkpointing.published import FILES
from datasets.splits import parse_lines
from kitti_utils import CAMERAS, frame_path
from system.errors import UserError


def check_images(data_path, split, lines, png=False):
    """Raise `UserError` unless all images of a split's test lines are there."""
    ending = ".png" if png else ".jpg"
    entries = parse_lines(lines, split.where("test"))
    paths = [frame_path(data_path, line.folder, CAMERAS[line.side], line.frame, ending) for line in entries]
    refuse_missing(paths, "images", data_path, split)


def check_weights(folder):
    """Raise `UserError` unless a weights folder holds the files of a depth network."""
    for name in FILES:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise UserError("no such weights file", path, "give a folder that holds encoder.pth and depth.pth")


def refuse_missing(paths, kind, data_path, split, fix=None):
    """Raise `UserError` unless `paths`, one for each test line, exist; it counts them and says what would bring them.

    Args:
        kind: what the files are, in the plural.
        fix: the advice; by default the command that fetches KITTI's.
    """
    missing = [number for number, path in enumerate(paths) if not os.path.exists(path)]
    if missing:
        name = split.name if split.published else split.folder
        first = missing[0]
        raise UserError(
            f"{len(missing)} of {len(paths)} {kind} of the split are missing",
            f"{paths[first]} (wanted by {split.where('test')} {first + 1})",
            fix or f"python prepare_kitti.py --data_path {data_path} --split {name} fetches KITTI's",
        )
