"""One evaluation from options to results: which weights, which images, which protocol; nothing is printed.

What a command wants to say on the way goes to the function `tell` that it passes; without one all is silent.
"""

import collections
import os
import sys
from typing import NamedTuple

import numpy as np

from checkpointing.fetched import weights_folder
from evaluation import presence, report, sharing, submission
from evaluation.metrics import mean_errors
from evaluation.predictions import network_disparities, stored_disparities, written_on_the_way
from evaluation.rules import contradictions, named_weights
from evaluation.statistics import compare
from evaluation.task import Task
from evaluation.tasks import task_for
from system import files
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


def evaluate_shared(opt, tell=None):
    """As `evaluate`; under torchrun the processes share the images out.

    Returns:
        The list of `Evaluation` in the first process, None in the others: there is one to print and to write.
    """
    with sharing.joined(opt) as processes:
        found = evaluate(opt, tell if processes.is_first else None, processes)
    return found if processes.is_first else None


def evaluate(opt, tell=None, processes=sharing.ALONE):
    """Evaluate as the options say; write the disparities that were asked for.

    Args:
        opt: namespace with the options of `options.LiteMonoOptions("evaluate_depth.py")`.
        tell: print, or what is called like it, for each line worth telling people; without, all is silent.
        processes: `sharing.Processes` that share the images out; the first writes.

    Returns:
        A list of `Evaluation`, one for each weights folder; empty with --no_eval.

    Raises:
        UserError: options that contradict each other; anything missing, damaged or not matching.
    """
    say = tell or (lambda line, file=None: None)
    task, folders, stored = sharing.agreed(processes, lambda: _prepared(opt, tell, processes))
    if processes.count > 1 and not opt.no_eval:  # the others find the ground truth made
        sharing.agreed(processes, task.prepare if processes.is_first else lambda: None)
    if task.protocol.alignment == "none" and task.protocol.scale_factor != 1:
        say(f"no scaling to the ground truth, depth times {task.protocol.scale_factor:g}")
    evaluations, failures = [], []
    for folder in folders:
        try:
            evaluations += _evaluate_one(opt, folder, stored, task, tell, processes)
        except _Unusable as problem:
            if len(folders) == 1:
                raise
            failures += problem.problems
            say(f"{folder}: {problem.what}; left out", file=sys.stderr)
    if failures and not evaluations and not opt.no_eval:
        raise UserErrors(failures)
    return _told_apart(evaluations)


def _prepared(opt, tell, processes):
    """Return (task, weights folders, stored disparities) after everything was checked that can be before the work."""
    problems = [UserError(*problem) for problem in contradictions(opt)]
    if opt.submission and processes.count > 1:
        problems.append(UserError("a submission is written by one process", f"--submission with {processes.count}",
                                  "start it without torchrun"))  # fmt: skip
    if problems:
        raise UserErrors(problems)
    if opt.submission:
        submission.check_folder(opt.submission)
    task = task_for(opt, tell)
    folders = _weights_folders(opt)
    for folder in folders:
        if folder is not None and len(folders) == 1:
            presence.check_weights(folder)
        if folder is not None and opt.save_pred_disps:
            files.check_place(_disparities_path(opt, folder, task), "--save_pred_disps")
    stored = stored_disparities(opt.ext_disp_to_eval, len(task.lines)) if opt.ext_disp_to_eval else None
    return task, folders, stored


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


class _Unusable(UserErrors):
    """Weights or disparities that cannot be evaluated, while others may be."""


def _evaluate_one(opt, folder, stored, task, tell, processes):
    """Return [Evaluation] of one weights folder, or of the `stored` disparities; [] where nothing is to be scored."""
    source = folder or opt.ext_disp_to_eval
    share = sharing.Share(processes, len(task.lines), opt.batch_size)
    kept = sharing.Kept() if folder and opt.save_pred_disps and processes.count > 1 else None
    own, about = sharing.agreed(processes, lambda: _own_results(opt, folder, stored, task, share, kept, tell))
    if kept:
        for _ in written_on_the_way(_disparities_path(opt, folder, task), kept.of_all(share), share, tell):
            pass
    if opt.submission:
        return []
    results = share.merged(own)
    if opt.no_eval:
        if tell:
            tell(f"{len(results)} images predicted, not evaluated")
        return []
    if not any(result.pixels for result in results):
        raise UserError("no pixel of the ground truth counts", task.name, "give the data set's own ground truth")
    common = {"predictions": os.path.abspath(source), "split": task.name, "post_process": opt.post_process}
    summary = report.summary(results, task, **common, **about)
    if opt.statistics:
        summary["statistics"] = report.statistics_summary(results)
    return [Evaluation(_name(source), mean_errors(results), results, summary, task)]


def _own_results(opt, folder, stored, task, share, kept, tell):
    """Return (the results of this process's images, what the summary says about the network)."""
    indices, about = share.indices(), {}
    if folder is None:
        disparities = (stored[index] for index in indices)
    else:
        some = task if share.processes.count == 1 else task.some(indices)
        try:
            disparities, about = network_disparities(opt, folder, some, tell)
        except UserError as error:
            raise _Unusable(getattr(error, "problems", [error])) from error
    if kept:
        disparities = kept.on_the_way(disparities)
    elif folder is not None and opt.save_pred_disps:
        disparities = written_on_the_way(_disparities_path(opt, folder, task), disparities, share, tell)
    if opt.submission:
        submission.write(opt.submission, task, disparities)
        if tell:
            tell(f"{len(indices)} depth maps written to {opt.submission}")
        return [], about
    if opt.no_eval:
        return [None for _ in disparities], about
    try:
        return list(task.score(disparities, indices)), about
    except ValueError as error:
        fix = "the weights or disparities are broken, choose others"
        source = folder or opt.ext_disp_to_eval
        raise _Unusable([UserError(f"these predictions cannot be evaluated: {error}", source, fix)]) from error


def _disparities_path(opt, folder, task):
    return os.path.join(opt.eval_out_dir or folder, f"disps_{task.name}_split.npy")


def _name(path):
    return os.path.basename(os.path.abspath(path))


# ------------------------------------------------------------------------------------------------ what to evaluate


def _weights_folders(opt):
    """The folders to evaluate; [None] stands for stored disparities."""
    found = []
    for name in named_weights(opt):
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
