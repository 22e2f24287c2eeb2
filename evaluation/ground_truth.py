"""Ground-truth depth of a split's test images, made from LiDAR scans or improved maps."""

import contextlib
import json
import os

from cpu.allocator import keep_freed_memory
from datasets.images import read_depth_png
from datasets.splits import IMPROVED_SPLITS, checksum, parse_lines, resolve_split
from evaluation.ground_truth_file import load_ground_truth, write_ground_truth
from evaluation.presence import refuse_missing
from kitti_utils import CAMERA_OF_SIDE, calibration_folder, generate_depth_map, improved_path, scan_path
from system.errors import UserError
from system.parallel import available_cores, map_in_order
from system.progress import Progress

FILE_NAME = "gt_depths.npz"


def ground_truth_path(split):
    """Return where a split's ground truth lies; `split` as `resolve_split` takes it, or its result."""
    return os.path.join(_resolved(split).folder, FILE_NAME)


def build(data_path, split, lines=None, *, camera_depth=False, output=None, workers=None, quiet=False):
    """Make the ground truth of a split's test images and write it, whole or not at all.

    Args:
        data_path: root of KITTI raw, with scans and calibration (eigen_benchmark: with the improved maps).
        split: a published name or folder, or the result of `resolve_split`.
        lines: its test lines, where they are at hand.
        camera_depth: depth in the camera's frame instead of the velodyne's forward distance.
        output: the file to write; `ground_truth_path(split)` without.
        workers: threads; as many as there are cores without.
        quiet: no progress.

    Returns:
        The path written.

    Raises:
        UserError: a scan, map or calibration is missing or damaged, or the file cannot be written.
    """
    keep_freed_memory()
    split = _resolved(split)
    lines = split.lines("test") if lines is None else list(lines)
    entries = parse_lines(lines, split.where("test"))
    improved = split.name in IMPROVED_SPLITS
    path = os.path.abspath(output or ground_truth_path(split))

    _check_sources(data_path, split, entries, improved)

    def one(number):
        wanted_by = f"{split.where('test')} {number + 1}"
        return depth_of(data_path, entries[number], improved, camera_depth, wanted_by)

    kind = "improved" if improved else "camera" if camera_depth else "velodyne"
    comment = json.dumps({"split": split.name, "depth": kind, "count": len(lines), "sha256": checksum(lines)})
    depths = map_in_order(one, range(len(entries)), workers or available_cores())
    with Progress("ground truth", len(entries), "images", quiet) as progress:
        write_ground_truth(path, progress.over(depths), comment)
    return path


def build_missing(data_path, splits, collected):
    """Build gt_depths.npz of every split that has a test list, unless one for that list is there; print what is done.

    Args:
        data_path: root of KITTI raw.
        splits: names or folders.
        collected: function that returns a context which keeps a split's `UserError` for later.
    """
    for split in map(resolve_split, splits):
        if "test" not in split.parts() or split.name == "benchmark":
            continue
        with collected():
            lines, path = split.lines("test"), ground_truth_path(split)
            with contextlib.suppress(UserError):
                load_ground_truth(path, lines)
                print(f"ground truth of {split.name} is there: {path}")
                continue
            build(data_path, split, lines)
            print(f"ground truth of {split.name}: {len(lines)} maps in {path}")


def check(data_path, split, lines):
    """Raise `UserError` unless a split's ground truth is there or what it is made from is."""
    if not os.path.isfile(ground_truth_path(split)):
        _check_sources(data_path, split, parse_lines(lines, split.where("test")), split.name in IMPROVED_SPLITS)


def _check_sources(data_path, split, entries, improved):
    if improved:
        paths = [improved_path(data_path, *line) for line in entries]
        refuse_missing(paths, "improved depth maps", data_path, split, fix="unpack KITTI's data_depth_annotated there")
    else:
        paths = [scan_path(data_path, line.folder, line.frame) for line in entries]
        refuse_missing(paths, "LiDAR scans", data_path, split)


def depth_of(data_path, line, improved=False, camera_depth=False, wanted_by=None):
    """Return the ground truth of one `Line`, (H, W) float32 metres at the image's own size, 0 where unknown."""
    if improved:
        return read_depth_png(improved_path(data_path, *line), wanted_by)
    scan = scan_path(data_path, line.folder, line.frame)
    calibration = calibration_folder(data_path, line.folder)
    try:
        return generate_depth_map(calibration, scan, CAMERA_OF_SIDE[line.side], vel_depth=not camera_depth)
    except UserError as error:
        which = f"{error.which} (wanted by {wanted_by})" if wanted_by else error.which
        raise UserError(error.what, which, error.fix) from None


def _resolved(split):
    return split if hasattr(split, "folder") else resolve_split(split)
