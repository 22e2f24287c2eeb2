"""How an evaluation is told: a table for people, a CSV of all images, a JSON summary."""

import csv
import io

import numpy as np

from evaluation import statistics
from evaluation.metrics import METRICS, mean_errors, ratio_statistics
from system import files

_WIDTH = 9  # of a column


def lines(evaluations):
    """Return the lines that tell people about evaluations: one in full, several as a table; none for none."""
    told = [line for each in evaluations if "statistics" in each.summary for line in statistics_lines(each)]
    if len(evaluations) != 1:
        return comparison(evaluations) + told if evaluations else []
    return single(evaluations[0]) + told


def single(evaluation):
    """Return the lines about one evaluation."""
    left_out = evaluation.summary["images_without_ground_truth"]
    told = [f"{left_out} of {len(evaluation.results)} images have no ground truth that counts and are left out"]
    return (told if left_out else []) + [
        scaling_line(evaluation.results, evaluation.task.protocol),
        header(evaluation.task.metrics),
        row(evaluation.means, evaluation.task.metrics),
    ]


def header(metrics=METRICS):
    """Return the names of the metrics, in columns."""
    return "".join(f"{name:>{_width(name)}}" for name in metrics)


def row(errors, metrics=METRICS):
    """Return the numbers with three decimals, in the columns of `header`."""
    return "".join(f"{error:{_width(name)}.3f}" for name, error in zip(metrics, errors, strict=True))


def _width(name):
    return max(_WIDTH, len(name) + 1)


def scaling_line(results, protocol):
    """Return the sentence about the ratios of medians."""
    median, spread = ratio_statistics(results)
    applied = "applied" if protocol.alignment == "median" else "not applied"
    return f"scaling ratios ({applied}): median {median:.3f}, relative standard deviation {spread:.3f}"


def best(evaluations):
    """Return the evaluation with the lowest abs_rel."""
    return min(evaluations, key=lambda each: each.means[0])


def comparison(evaluations):
    """Return the lines of a table of several evaluations, the lowest abs_rel marked."""
    label = max(len("weights"), *(len(each.name) for each in evaluations))
    marked = best(evaluations)
    table = [f"{'weights':<{label}}{header(evaluations[0].task.metrics)}"]
    for each in evaluations:
        table.append(f"{each.name:<{label}}{row(each.means, each.task.metrics)}{'  <- best' if each is marked else ''}")
    return table


def summary(results, task, **about):
    """Return a dict ready for JSON: what was evaluated (`about`), the protocol, the means, the scaling ratios."""
    median, spread = ratio_statistics(results)
    return {
        **about,
        "images": len(results),
        "images_without_ground_truth": sum(not result.pixels for result in results),
        "protocol": {key: _plain(value) for key, value in task.protocol._asdict().items()},
        "metrics": {name: _plain(value) for name, value in zip(task.metrics, mean_errors(results), strict=True)},
        "scaling_ratio": {"median": _plain(median), "relative_std": _plain(spread)},
    }


def statistics_summary(results):
    """Return what `evaluation.statistics` says of results, ready for JSON."""
    table = statistics.bands(results)
    low, high = statistics.intervals(results)
    return {
        "level": statistics.LEVEL,
        "intervals": {name: [float(a), float(b)] for name, a, b in zip(METRICS, low, high, strict=True)},
        "bands": {
            name: {"pixels": pixels, "abs_rel": _plain(relative), "rmse": _plain(root)}
            for name, (pixels, relative, root) in table.items()
        },
    }


def statistics_lines(evaluation):
    """Return the lines about the statistics of one evaluation."""
    about = evaluation.summary["statistics"]
    low, high = zip(*about["intervals"].values(), strict=True)
    told = [f"{evaluation.name}: {about['level']:.0%} interval over images", header(), row(low), row(high)]
    if against := about.get("against"):
        told.append(
            f"{against['metric']} against {against['name']}: {against['difference']:+.4f} "
            f"({against['low']:+.4f} to {against['high']:+.4f}), lower in {against['lower']}, higher in "
            f"{against['higher']} images, sign test p = {against['p_value']:.2g}"
        )
    told.append(f"{'band':<20}{'pixels':>10}{'abs_rel':>{_WIDTH}}{'rmse':>{_WIDTH}}")
    for name, band in about["bands"].items():
        numbers = ("-" if band[key] is None else f"{band[key]:.3f}" for key in ("abs_rel", "rmse"))
        told.append(f"{name:<20}{band['pixels']:>10}" + "".join(f"{number:>{_WIDTH}}" for number in numbers))
    return told


def write_csv(path, evaluations):
    """Write one line per image: weights, split line, the seven metrics, the ratio of medians, the pixels that count."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    task = evaluations[0].task
    table.writerow(["weights", "index", *task.columns, *task.metrics, "scaling_ratio", "pixels"])
    for evaluation in evaluations:
        for index, (line, result) in enumerate(zip(task.lines, evaluation.results, strict=True)):
            numbers = [f"{value:.9g}" for value in (*result.errors, result.ratio)]
            table.writerow([evaluation.name, index, *line.split(), *numbers, result.pixels])
    files.write_text(path, text.getvalue())


def write_json(path, evaluations, as_list=False):
    """Write the summaries of evaluations; of a single one without a list around it, unless asked for."""
    summaries = [each.summary for each in evaluations]
    files.write_json(path, summaries if as_list else summaries[0])


def _plain(value):
    """A number as JSON can say it: no nan, no infinity."""
    if isinstance(value, bool | str):
        return value
    return float(value) if np.isfinite(value) else None
