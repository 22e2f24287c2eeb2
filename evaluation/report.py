"""How an evaluation is told: a table for people, a CSV of all images, a JSON summary."""

import csv
import io

import numpy as np

from evaluation.metrics import METRICS, mean_errors, ratio_statistics
from system import files

_WIDTH = 9


def header():
    """Return the names of the seven metrics, in columns."""
    return "".join(f"{name:>{_WIDTH}}" for name in METRICS)


def row(errors):
    """Return seven numbers with three decimals, in the columns of `header`."""
    return "".join(f"{error:{_WIDTH}.3f}" for error in errors)


def scaling_line(results, protocol):
    """Return the sentence about the ratios of medians."""
    median, spread = ratio_statistics(results)
    applied = "applied" if protocol.median_scaling else "not applied"
    return f"scaling ratios ({applied}): median {median:.3f}, relative standard deviation {spread:.3f}"


def comparison(names, means):
    """Return the lines of a table of several evaluations, the lowest abs_rel marked; nan rows stand for failures."""
    label = max(len("weights"), *map(len, names))
    abs_rel = np.array([errors[0] for errors in means])
    best = int(np.nanargmin(abs_rel)) if np.isfinite(abs_rel).any() else None
    lines = [f"{'weights':<{label}}{header()}"]
    for index, (name, errors) in enumerate(zip(names, means, strict=True)):
        lines.append(f"{name:<{label}}{row(errors)}{'  <- best' if index == best else ''}")
    return lines, best


def summary(results, protocol, **about):
    """Return a dict ready for JSON: what was evaluated (`about`), the protocol, the means, the scaling ratios."""
    median, spread = ratio_statistics(results)
    return {
        **about,
        "images": len(results),
        "images_without_ground_truth": sum(not result.pixels for result in results),
        "protocol": {key: _plain(value) for key, value in protocol._asdict().items()},
        "metrics": {name: _plain(value) for name, value in zip(METRICS, mean_errors(results), strict=True)},
        "scaling_ratio": {"median": _plain(median), "relative_std": _plain(spread)},
    }


def write_csv(path, runs):
    """Write one line per image: weights, split line, the seven metrics, the ratio of medians, the pixels that count.

    Args:
        runs: iterable of (name of the weights, split lines, results).
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["weights", "index", "folder", "frame", "side", *METRICS, "scaling_ratio", "pixels"])
    for name, lines, results in runs:
        for index, (line, result) in enumerate(zip(lines, results, strict=True)):
            numbers = [f"{value:.9g}" for value in (*result.errors, result.ratio)]
            table.writerow([name, index, *line.split(), *numbers, result.pixels])
    files.write_text(path, text.getvalue())


def _plain(value):
    """A number as JSON can say it: no nan, no infinity."""
    if isinstance(value, bool):
        return value
    return float(value) if np.isfinite(value) else None
