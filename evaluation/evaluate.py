"""One evaluation from options to results: which weights, which images, which protocol; nothing is printed.

What a command wants to say on the way goes to the function `tell` that it passes; without one all is silent.
"""

import collections
import os
import sys
from typing import NamedTuple

import numpy as np

from checkpointing.published import WEIGHTS, weights_folder
from evaluation import report
from evaluation.metrics import mean_errors
from evaluation.predictions import network_disparities, stored_disparities, written_on_the_way
from evaluation.statistics import compare
from evaluation.tasks import Task, task_for
from system.errors import UserError, UserErrors


class Evaluation(NamedTuple):
    """One set of predictions.

    name: of the weights folder or file. means: the metrics, seven but for Make3D. results: every image's `ImageResult`.
    summary: what goes into JSON. task: what was evaluated, the same for all.
    """

    name: str
    means: np.ndarray
    results: list
    summary: dict
    task: Task


def evaluate(opt, tell=None):
    """Evaluate as the options say; write the disparities that were asked for.

    Args:
        opt: namespace with the options of `options.LiteMonoOptions("evaluate_depth.py")`.
        tell: print, or what is called like it, for each line worth telling people; without, all is silent.

    Returns:
        A list of `Evaluation`, one for each weights folder; empty with --no_eval.

    Raises:
        UserError: options that contradict each other; anything missing, damaged or not matching.
    """
    problems = [UserError(*problem) for problem in contradictions(opt)]
    if problems:
        raise UserErrors(problems)
    say = tell or (lambda line, file=None: None)
    task = task_for(opt, tell)
    folders = _weights_folders(opt)
    stored = stored_disparities(opt.ext_disp_to_eval, len(task.lines)) if opt.ext_disp_to_eval else None
    if task.protocol.alignment == "none" and task.protocol.scale_factor != 1:
        say(f"no scaling to the ground truth, depth times {task.protocol.scale_factor:g}")
    evaluations, failures = [], []
    for folder in folders:
        try:
            evaluations += _evaluate_one(opt, folder, stored, task, tell)
        except _Unusable as problem:
            if len(folders) == 1:
                raise problem.error from problem.__cause__
            failures.append(problem.error)
            say(f"{folder}: {problem.error.what}; left out", file=sys.stderr)
    if failures and not evaluations and not opt.no_eval:
        raise UserErrors(failures)
    return _told_apart(evaluations)


def _told_apart(evaluations):
    """Return evaluations under names of their own, the one of several with the lowest abs_rel marked in its summary."""
    counts = collections.Counter(each.name for each in evaluations)
    named = [each._replace(name=each.summary["predictions"]) if counts[each.name] > 1 else each for each in evaluations]
    if len(named) > 1:
        report.best(named).summary["best"] = True
    for each in named[1:]:
        if "statistics" in each.summary:
            against = {"name": named[0].name, **compare(named[0].results, each.results)._asdict()}
            each.summary["statistics"]["against"] = against
    return named


class _Unusable(Exception):
    """Weights or disparities that cannot be evaluated, while others may be."""

    def __init__(self, error):
        super().__init__(str(error))
        self.error = error


def _evaluate_one(opt, folder, stored, task, tell):
    """Return [Evaluation] of one weights folder, or of the `stored` disparities; [] with --no_eval."""
    source = folder or opt.ext_disp_to_eval
    about = {}
    if folder is None:
        disparities = stored
    else:
        try:
            disparities, about = network_disparities(opt, folder, task, tell)
        except UserError as error:
            raise _Unusable(error) from error
    if folder is not None and opt.save_pred_disps:
        target = os.path.join(opt.eval_out_dir or folder, f"disps_{task.name}_split.npy")
        disparities = written_on_the_way(target, disparities, len(task.lines), tell)
    if opt.no_eval:
        count = sum(1 for _ in disparities)
        if tell:
            tell(f"{count} images predicted, not evaluated")
        return []
    try:
        results = list(task.score(disparities))
    except ValueError as error:
        fix = "the weights or disparities are broken, choose others"
        raise _Unusable(UserError(f"these predictions cannot be evaluated: {error}", source, fix)) from error
    if not any(result.pixels for result in results):
        raise UserError("no pixel of the ground truth counts", task.name, "give the data set's own ground truth")
    common = {"predictions": os.path.abspath(source), "split": task.name, "post_process": opt.post_process}
    summary = report.summary(results, task, **common, **about)
    if opt.statistics:
        summary["statistics"] = report.statistics_summary(results)
    return [Evaluation(_name(source), mean_errors(results), results, summary, task)]


def _name(path):
    return os.path.basename(os.path.abspath(path))


# ------------------------------------------------------------------------------------------------ what to evaluate


def contradictions(opt):
    """Yield (what, which, fix) for every rule between evaluation's options that `opt` breaks."""
    names = _named(opt)
    if not names and not opt.ext_disp_to_eval:
        yield "nothing to evaluate", "no weights given", "add --load_weights_folder FOLDER or --ext_disp_to_eval FILE"
    if names and opt.ext_disp_to_eval:
        yield "two sources of predictions", "--load_weights_folder and --ext_disp_to_eval", "drop one"
    if opt.ext_disp_to_eval:
        for flag in ("save_pred_disps", "post_process", "all", "no_eval"):
            if getattr(opt, flag):
                yield "stored disparities are only evaluated", f"--{flag} with --ext_disp_to_eval", f"drop --{flag}"
    if opt.no_eval:
        for flag in ("csv", "json"):
            if getattr(opt, flag):
                yield "without an evaluation there is nothing to write", f"--{flag} with --no_eval", "drop one"
    if (opt.all or len(names) > 1) and opt.eval_out_dir and opt.save_pred_disps:
        yield "all weights would write the same file", "--save_pred_disps with --eval_out_dir", "drop --eval_out_dir"
    if opt.save_pred_disps and not opt.eval_out_dir:
        for name in names:
            if name in WEIGHTS and not os.path.exists(os.path.expanduser(name)):
                yield "a published name has no folder for disparities", name, "add --eval_out_dir FOLDER"
    if opt.dataset == "frames":
        yield "no protocol for this layout of data", "--dataset frames", "use kitti, or make3d"
    if opt.statistics and opt.dataset == "make3d":
        yield "bands of depth are KITTI's", "--statistics with --dataset make3d", "drop one"
    if opt.eval_stereo and opt.eval_mono:
        yield "two ways to evaluate", "--eval_mono and --eval_stereo", "drop one"
    if opt.metric:
        for flag in ("ext_disp_to_eval", "eval_stereo", "eval_mono"):
            if getattr(opt, flag):
                yield "--metric is a scale of weights, for no other scaling", f"--metric with --{flag}", "drop one"
        if opt.pred_depth_scale_factor != 1:
            yield "two scales", "--metric and --pred_depth_scale_factor", "drop one"
    others = [flag for flag in ("eval_stereo", "disable_median_scaling", "metric") if getattr(opt, flag)]
    if opt.alignment and opt.alignment != "none" and others:
        other = f"--{others[0]}"
        yield "depth is to be scaled and not to be scaled", f"--alignment {opt.alignment} with {other}", "drop one"


def _named(opt):
    names = opt.load_weights_folder or []
    return [names] if isinstance(names, str | os.PathLike) else list(names)


def _weights_folders(opt):
    """The folders to evaluate; [None] stands for stored disparities."""
    found = []
    for name in _named(opt):
        top = weights_folder(name)
        found += _epochs(top) if opt.all else [top]
    return found or [None]


def _epochs(top):
    for folder in (top, os.path.join(top, "models")):
        names = os.listdir(folder) if os.path.isdir(folder) else ()
        found = [name for name in names if name.startswith("weights_") and os.path.isdir(os.path.join(folder, name))]
        if found:
            return [os.path.join(folder, name) for name in sorted(found, key=_epoch_order)]
    raise UserError("no weights_<epoch> folders to evaluate", top, "give a run's models folder, as train.py writes it")


def _epoch_order(name):
    epoch = name.removeprefix("weights_")
    return (0, int(epoch), "") if epoch.isdecimal() else (1, 0, epoch)
