"""The odometry evaluation that evaluate_pose.py runs: everything is checked before the first image is predicted."""

import os
from typing import NamedTuple

import numpy as np

from datasets.trajectories import accumulate, read_poses, straight_line
from evaluation import odometry, odometry_report
from evaluation.sequences import folder_sequence, frames, kitti_sequence
from inference.motion import MotionPredictor
from system import files
from system.devices import choose_device
from system.errors import UserError
from system.progress import Progress

STRAIGHT_LINE = "straight line"
LARGEST_SIDE = 8192  # pixels


class Odometry(NamedTuple):
    """One evaluated trajectory: `errors` as `odometry.errors` returns them, None without true poses."""

    name: str
    predicted: np.ndarray
    truth: np.ndarray
    errors: dict


def evaluate(options):
    """Evaluate what evaluate_pose.py's options name; returns a list of `Odometry`. Raises UserError."""
    check(options)
    if options.ext_poses:
        return [_stored(options)]
    sequences = _sequences(options)

    device = choose_device(options.no_cuda, options.device)
    folder = os.path.expanduser(options.load_weights_folder)
    predictor = MotionPredictor(folder, options.model, device, options.height, options.width)
    kind = predictor.networks.kind
    print(f"{folder}: {kind}, sees frames {list(predictor.networks.frame_ids)}, {predictor.width}x{predictor.height}, "
          f"on {device}")  # fmt: skip
    if kind == "posecnn" and not predictor.networks.depth:
        print("no depth weights beside this PoseCNN: every motion has the scale of its own frame's mean depth")
    plans = [(sequence, _motions(predictor, sequence, options)) for sequence in sequences]
    return [_predicted(sequence, motions, options) for sequence, motions in plans]


def check(options):
    """Raise `UserError` for options that contradict each other or name a place that cannot be written."""
    if bool(options.ext_poses) == bool(options.load_weights_folder):
        raise UserError("one source of motion is needed", "--load_weights_folder or --ext_poses", "give one of the two")
    if options.ext_poses and not options.gt_poses:
        raise UserError("stored poses without true ones", "--ext_poses without --gt_poses", "add --gt_poses FILE")
    if options.gt_poses and not (options.ext_poses or options.images):
        fix = "add --images FOLDER, or leave it out: sequences have poses of their own"
        raise UserError("true poses of no images", "--gt_poses without --images or --ext_poses", fix)
    if options.ext_poses and options.images:
        raise UserError("stored poses need no images", "--ext_poses with --images", "drop one")
    for name in ("height", "width"):
        value = getattr(options, name)
        if value is not None and (value % 32 or value > LARGEST_SIDE):
            fix = f"choose a multiple of 32, {LARGEST_SIDE} at most"
            raise UserError("a size that the networks do not take", f"--{name} {value}", fix)
    if options.json:
        files.check_place(options.json, "--json")
    if options.out_dir:
        files.check_place(os.path.join(options.out_dir, "trajectory.txt"), "--out_dir")


def _stored(options):
    predicted, truth = read_poses(options.ext_poses), read_poses(options.gt_poses)
    if len(predicted) != len(truth):
        which = f"{options.ext_poses}: {len(predicted)}, {options.gt_poses}: {len(truth)}"
        raise UserError("the pose files differ in length", which, "give the poses of the same frames")
    name = os.path.splitext(os.path.basename(options.ext_poses))[0]
    return _finished(name, predicted, truth, options)


def _sequences(options):
    if options.images:
        return [folder_sequence(os.path.expanduser(options.images), options.gt_poses)]
    if not os.path.isdir(options.data_path):
        raise UserError("no such data folder", options.data_path, "give --data_path, the folder of sequences and poses")
    ending = ".png" if options.png else ".jpg"
    return [kitti_sequence(options.data_path, number, ending) for number in options.sequences]


def _motions(predictor, sequence, options):
    images = frames(sequence, predictor.height, predictor.width, options.num_workers)
    return predictor.motions(images, len(sequence.images), options.batch_size)


def _predicted(sequence, motions, options):
    with Progress(f"sequence {sequence.name}", len(sequence.images) - 1, "motions") as progress:
        predicted = accumulate(list(progress.over(motions)))
    if not np.isfinite(predicted).all():
        raise UserError("the predicted motions are not finite", sequence.name, "the weights are broken, choose others")
    return _finished(sequence.name, predicted, sequence.poses, options)


def _finished(name, predicted, truth, options):
    errors = None
    if truth is not None:
        errors = odometry.errors(truth, predicted, options.lengths, not options.metric)
        line = odometry.errors(truth, straight_line(truth), options.lengths)
        errors[STRAIGHT_LINE.replace(" ", "_")] = {key: line[key] for key in ("ate_5_mean", "ate_sim3_rmse")}
        print("\n".join(odometry_report.table([(name, errors), (f"({STRAIGHT_LINE})", line)])))
        if errors["t_rel"] is None:
            shortest = min(options.lengths)
            print(f"{errors['length']:.0f} m hold no segment of {shortest:g} m: no t_rel, r_rel (see --lengths)")
    if options.out_dir:
        odometry_report.write_trajectory(options.out_dir, name, predicted, truth)
        print(f"trajectory written to {os.path.join(options.out_dir, name)}.txt and .png")
    return Odometry(name, predicted, truth, errors)


def write_json(path, evaluations):
    """Write the errors: of one trajectory as a dict, of several as {name: dict}."""
    every = {each.name: each.errors for each in evaluations}
    files.write_json(path, next(iter(every.values())) if len(every) == 1 else every)
    print(f"errors written to {path}")
