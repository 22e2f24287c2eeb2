"""Which validation of a run was the best so far, by which metric, and whether another one beats it."""

import math

from system.errors import UserError

HIGHER_IS_BETTER = ("a1", "a2", "a3")


def no_best():
    """Return the record of a run that has not validated yet."""
    return {"metric": None, "value": None, "epoch": None}


def better(best, wanted, results, epoch):
    """Return the record of this validation if it beats `best`, else None.

    Args:
        best: the record so far; one of another metric is beaten.
        wanted: --best_metric.
        results: {metric: value}.
        epoch: of the validation.

    Raises:
        UserError: the metric that decides is not among the results.
    """
    metric = choose_metric(wanted, results)
    if metric not in results:
        fix = "use --best_metric loss"
        raise UserError("no ground truth to choose weights by", f"--best_metric {metric}", fix)
    rival = best["value"] if best["metric"] == metric else None
    if is_better(metric, results[metric], rival):
        return {"metric": metric, "value": results[metric], "epoch": epoch}


def choose_metric(wanted, results):
    """Return the name of the metric that weights_best follows; "auto" is abs_rel where there is ground truth."""
    if wanted == "auto":
        return "abs_rel" if "abs_rel" in results else "loss"
    return wanted


def is_better(metric, value, best):
    """Whether `value` of a metric beats `best`, which may be None; what is no number beats nothing."""
    if math.isnan(value):
        return False
    return best is None or (value > best if metric in HIGHER_IS_BETTER else value < best)
