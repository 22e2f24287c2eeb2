"""Depth without looking at the image: one constant, and the mean depth of each image row over the training frames.

    python -m demo.baselines --data_path DATA --split SPLIT

A network that has learned to see must beat both on the split's test frames; both are scaled per image by the medians,
as a network's depth is.
"""

import sys

import numpy as np

from datasets.splits import parse_lines, resolve_split
from evaluation import ground_truth
from evaluation.ground_truth import depth_of
from evaluation.ground_truth_file import load_ground_truth
from evaluation.metrics import METRICS, Protocol, evaluate_images, mean_errors
from system.command_line import Parser, command, positive
from system.errors import UserError
from system.files import refuse_as_output, write_json


@command
def main(argv=None):
    """Print abs_rel of both; write them as JSON on request."""
    parser = Parser(prog="-m demo.baselines", description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", required=True, help="root of data in KITTI raw layout")
    parser.add_argument("--split", required=True, help="split whose training frames give the row means")
    parser.add_argument("--frames", type=positive, default=200, help="training frames to average, evenly chosen")
    parser.add_argument("--json", help="write the figures here")
    opt = parser.parse_args(argv)
    refuse_as_output(opt.json, (".json",), "--json")

    split = resolve_split(opt.split)
    path = ground_truth.build(opt.data_path, split, quiet=True)
    truths = load_ground_truth(path)
    rows = mean_depth_of_rows(opt.data_path, split.lines("train"), opt.frames)
    guesses = {"constant depth": np.ones((2, 2), np.float32), "mean depth of each row": np.tile(1 / rows[:, None], 2)}
    figures = {}
    for name, disparity in guesses.items():
        errors = mean_errors(list(evaluate_images(truths, [disparity] * len(truths), Protocol())))
        figures[name] = dict(zip(METRICS, map(float, errors), strict=True))
        print(f"{name}: abs_rel {figures[name]['abs_rel']:.3f}")
    if opt.json:
        write_json(opt.json, figures)
    return 0


def mean_depth_of_rows(data_path, lines, frames):
    """Return the mean depth (rows,) of each image row over training frames of the left camera, in metres.

    Rows that no LiDAR point reaches take the nearest row's mean.

    Raises:
        UserError: the frames have no scans.
    """
    left = [line for line in parse_lines(lines) if line.side == "l"]
    chosen = left[:: max(1, len(left) // frames)]
    total = count = None
    for line in chosen:
        depth = depth_of(data_path, line)
        if total is None:
            total, count = np.zeros(len(depth)), np.zeros(len(depth))
        if len(depth) == len(total):
            total += depth.sum(1, dtype=np.float64)
            count += (depth > 0).sum(1)
    if total is None or not count.any():
        raise UserError("no training frame with a scan", data_path, "give data with velodyne_points")
    known = np.flatnonzero(count)
    return np.interp(np.arange(len(total)), known, total[known] / count[known]).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
