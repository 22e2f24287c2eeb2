"""Evaluate depth on a KITTI split: weights or stored disparities against LiDAR, the seven standard metrics.

    python evaluate_depth.py --load_weights_folder WEIGHTS --data_path DATA --model lite-mono
"""

import argparse
import os
import sys
from typing import NamedTuple

import numpy as np

from checkpointing.published import weights_folder
from datasets.splits import resolve_split
from evaluation import report
from evaluation.metrics import (
    STEREO_SCALE,
    Protocol,
    compute_errors,
    evaluate_images,
    mean_errors,
)
from evaluation.predictions import network_disparities, stored_disparities, written_on_the_way
from inference.post_processing import batch_post_process_disparity
from system import files
from system.command_line import command
from system.errors import UserError, UserErrors

__all__ = ("batch_post_process_disparity", "compute_errors", "evaluate", "main")


class Evaluation(NamedTuple):
    """One set of predictions: its `name`, the seven `means`, every image's `ImageResult`, the `summary` for JSON."""

    name: str
    means: np.ndarray
    results: list
    summary: dict


@command
def main(argv=None):
    """Run the command line."""
    from options import LiteMonoOptions

    evaluate(LiteMonoOptions(prog="evaluate_depth.py").parse(argv))
    return 0


def evaluate(opt):
    """Evaluate as the options say; print the table, write what was asked for.

    Args:
        opt: namespace with the options of `options.LiteMonoOptions`; those it lacks take their defaults.

    Returns:
        A list of `Evaluation`: one, or one per weights folder with --all; empty with --no_eval.

    Raises:
        UserError: options that contradict each other; anything missing, damaged or not matching.
    """
    opt = _completed(opt)
    problems = [UserError(*problem) for problem in _contradictions(opt)]
    if problems:
        raise UserErrors(problems)
    split = resolve_split(opt.eval_split)
    lines = split.lines("test")
    folders = _weights_folders(opt)
    stored = stored_disparities(opt.ext_disp_to_eval, len(lines)) if opt.ext_disp_to_eval else None
    protocol = _protocol(opt, split)
    ground_truth = None
    evaluations = []
    for folder in folders:
        disparities, about = (stored, {}) if folder is None else network_disparities(opt, folder, lines)
        if folder is not None and opt.save_pred_disps:
            target = os.path.join(opt.eval_out_dir or folder, f"disps_{split.name}_split.npy")
            disparities = written_on_the_way(target, disparities, len(lines))
        if opt.no_eval:
            count = sum(1 for _ in disparities)
            print(f"{count} images predicted, not evaluated")
            continue
        if ground_truth is None:
            ground_truth = _ground_truth(opt, split, lines)
        name = os.path.basename(os.path.abspath(folder or opt.ext_disp_to_eval))
        source = folder or opt.ext_disp_to_eval
        try:
            results = list(evaluate_images(ground_truth, disparities, protocol))
        except ValueError as error:
            if len(folders) == 1:
                raise UserError("these predictions cannot be evaluated", f"{source}: {error}",
                                "the weights or disparities are broken, choose others") from error  # fmt: skip
            print(f"{name}: {error}; left out", file=sys.stderr)
            continue
        about = {"predictions": os.path.abspath(source), "split": split.name, "post_process": opt.post_process, **about}
        evaluations.append(
            Evaluation(name, mean_errors(results), results, report.summary(results, protocol, **about))
        )
        if len(folders) == 1:
            _print_single(evaluations[0], protocol)
    if len(folders) > 1 and evaluations:
        _print_comparison(evaluations)
    _write_requested(opt, lines, evaluations)
    return evaluations


# ------------------------------------------------------------------------------------------------ what to evaluate


def _completed(opt):
    from options import LiteMonoOptions

    defaults = LiteMonoOptions().parser.parse_args([])
    return argparse.Namespace(**{**vars(defaults), **vars(opt)})


def _contradictions(opt):
    if not opt.load_weights_folder and not opt.ext_disp_to_eval:
        yield "nothing to evaluate", "no weights given", "add --load_weights_folder FOLDER or --ext_disp_to_eval FILE"
    if opt.load_weights_folder and opt.ext_disp_to_eval:
        yield "two sources of predictions", "--load_weights_folder and --ext_disp_to_eval", "drop one"
    if opt.ext_disp_to_eval:
        for flag in ("save_pred_disps", "post_process", "all", "no_eval"):
            if getattr(opt, flag):
                yield "stored disparities are only evaluated", f"--{flag} with --ext_disp_to_eval", f"drop --{flag}"
    if opt.no_eval:
        for flag in ("csv", "json"):
            if getattr(opt, flag):
                yield "without an evaluation there is nothing to write", f"--{flag} with --no_eval", "drop one"
    if opt.all and opt.eval_out_dir and opt.save_pred_disps:
        yield "all epochs would write the same file", "--all with --eval_out_dir", "drop --eval_out_dir"
    for flag in ("csv", "json"):
        path = getattr(opt, flag)
        if path and os.path.isdir(path):
            yield "a folder stands where a file is to be written", f"--{flag} {path}", "give a file name"
        elif path and not _may_be_written(path):
            yield "the file cannot be written there", f"--{flag} {path}", "choose another place"


def _may_be_written(path):
    """Whether the nearest thing above `path` that exists is a folder open to us: known before an hour of work."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def _weights_folders(opt):
    """The folders to evaluate; [None] stands for stored disparities."""
    if not opt.load_weights_folder:
        return [None]
    top = weights_folder(opt.load_weights_folder)
    if not opt.all:
        return [top]
    for folder in (top, os.path.join(top, "models")):
        names = os.listdir(folder) if os.path.isdir(folder) else ()
        found = [name for name in names if name.startswith("weights_") and os.path.isdir(os.path.join(folder, name))]
        if found:
            return [os.path.join(folder, name) for name in sorted(found, key=_epoch_order)]
    raise UserError("no weights_<epoch> folders to evaluate", top, "give a run's models folder, as train.py writes it")


def _epoch_order(name):
    epoch = name.removeprefix("weights_")
    return (0, int(epoch), "") if epoch.isdecimal() else (1, 0, epoch)


def _protocol(opt, split):
    from evaluation.ground_truth import IMPROVED_SPLITS

    scale, median_scaling = opt.pred_depth_scale_factor, not opt.disable_median_scaling
    if opt.use_stereo:
        median_scaling = False
        scale = scale if scale != 1 else STEREO_SCALE
        print(f"stereo: no median scaling, depth times {scale:g}")
    make = Protocol.for_improved_maps if split.name in IMPROVED_SPLITS else Protocol
    return make(median_scaling=median_scaling, scale_factor=scale)


def _ground_truth(opt, split, lines):
    from evaluation import ground_truth

    path = ground_truth.ground_truth_path(split)
    if not os.path.isfile(path):
        print(f"{path} is missing: building it from {opt.data_path}")
        ground_truth.build(opt.data_path, split, lines)
    return ground_truth.load_ground_truth(path, lines)


# ------------------------------------------------------------------------------------------------ telling


def _print_single(evaluation, protocol):
    left_out = evaluation.summary["images_without_ground_truth"]
    if left_out:
        print(f"{left_out} of {len(evaluation.results)} images have no ground truth that counts and are left out")
    print(report.scaling_line(evaluation.results, protocol))
    print(report.header())
    print(report.row(evaluation.means))


def _print_comparison(evaluations):
    lines, best = report.comparison([each.name for each in evaluations], [each.means for each in evaluations])
    print("\n".join(lines))
    if best is not None:
        evaluations[best].summary["best"] = True


def _write_requested(opt, lines, evaluations):
    if opt.csv:
        report.write_csv(opt.csv, [(each.name, lines, each.results) for each in evaluations])
        print(f"results of every image written to {opt.csv}")
    if opt.json:
        summaries = [each.summary for each in evaluations]
        files.write_json(opt.json, summaries if opt.all else summaries[0])
        print(f"summary written to {opt.json}")


if __name__ == "__main__":
    sys.exit(main())
