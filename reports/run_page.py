"""The page and the plots of training runs: curves, pictures over the epochs, alarms, speed, what was run and how."""

import io
from collections import Counter

import numpy as np

from evaluation import METRICS
from reports import page, plots
from reports.charts import Chart, Series
from reports.run_files import check_run, facts_about, read_run
from system.errors import UserError

MOST_RUNS = 8
UNKNOWN = "–"
OFF = ("None", "False")  # texts of options that do nothing
SHOWN_STEPS = 6  # pictures of a run along its steps
PICTURE_TAGS = ("disp_0/0", "disp_0/1")
# name, title, unit, tags of which a run has some
CURVES = (
    ("loss", "Training loss", "loss", ("train/loss",)),
    ("validation_loss", "Validation loss", "loss", ("val/loss",)),
    *((name, f"Validation {name}", name, (f"val/{name}",)) for name in METRICS),
    ("learning_rates", "Learning rates", "rate", ("train/learning_rate/adam", "train/learning_rate/adam_pose")),
    ("speed", "Speed", "images a second", ("train/images_per_second",)),
    ("waiting", "Waiting for data", "share of the time", ("train/waiting",)),
    ("spread", "Spread of disparity", "relative deviation", ("train/spread",)),
    ("motion", "Length of the predicted motion", "mean translation", ("train/motion",)),
    ("masked", "Pixels that auto-masking takes", "share", ("train/masked",)),
)
SHORT = {"train/learning_rate/adam": "depth", "train/learning_rate/adam_pose": "pose"}


def write_report(paths, report=None, folder=None):
    """Write the page and the plots of runs.

    Args:
        paths: of the runs' folders.
        report: the HTML file; none without.
        folder: of the plots; none without.

    Raises:
        UserError: a folder is no run, or holds damaged files.
    """
    runs = _told_apart([read_run(check_run(path)) for path in paths])
    charts = charts_of(runs)
    if report:
        page.write(report, "run.html", runs=runs, charts=charts, summaries=[summary(run) for run in runs],
                   table=summary_table(runs), facts=[facts_about(run.facts) for run in runs],
                   differing=differing_options(runs),
                   strips=[strip(run) for run in runs], options=[options_of(run) for run in runs])  # fmt: skip
    if folder:
        for chart in charts:
            plots.write_chart(folder, chart)


def write_command(opt, tell):
    """Do what report_run.py was asked for; all that can be wrong is found before a run is read."""
    page.check_output(opt.out, "--out")
    plots.check_folder(opt.plots)
    if len(opt.runs) > MOST_RUNS:
        raise UserError("too many runs for one page", len(opt.runs), f"give {MOST_RUNS} at most")
    for path in opt.runs:
        check_run(path)
    write_report(opt.runs, opt.out, opt.plots)
    tell(f"report written to {opt.out}")
    if opt.plots:
        tell(f"plots written to {opt.plots}")


def _told_apart(runs):
    counts = Counter(run.name for run in runs)
    return [run._replace(name=run.path) if counts[run.name] > 1 else run for run in runs]


def charts_of(runs):
    """Return the `Chart`s of everything that at least one run has written."""
    charts = []
    for name, title, unit, tags in CURVES:
        series = []
        for run in runs:
            for tag in tags:
                steps, values = run.curve(tag)
                label = " ".join(filter(None, [run.name if len(runs) > 1 or tag not in SHORT else "", SHORT.get(tag)]))
                series += [Series(label, steps, values)] if steps else []
        if series:
            charts.append(Chart(name, title, "step", unit, tuple(series)))
    return charts


def summary(run):
    """Return [(label, value, remark)] of a run's most telling numbers."""
    told = []
    metric = run.best.get("chosen_by") if isinstance(run.best.get("chosen_by"), str) else None
    if metric in run.best and isinstance(run.best[metric], int | float):
        told.append((f"best {metric}", f"{run.best[metric]:.3f}", f"epoch {run.best.get('epoch')}"))
    steps, losses = run.curve("train/loss")
    if steps:
        told.append(("last loss", f"{losses[-1]:.4f}", f"step {steps[-1]}"))
    times = [point[1] for points in run.scalars.values() for point in points]
    told.append(("time", length(max(times) - min(times)), "from the first entry to the last"))
    _, speeds = run.curve("train/images_per_second")
    if speeds:
        told.append(("speed", f"{np.median(speeds):.1f}", "images a second, median"))
    _, waits = run.curve("train/waiting")
    if waits:
        told.append(("waiting", f"{np.median(waits):.0%}", "of the time for data, median"))
    return told


def length(seconds):
    """Return a length of time as people say it."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes // 60} h {minutes % 60:02d} min" if minutes > 59 else (
        f"{minutes} min")  # fmt: skip


def epoch_of(run, step):
    """Return the number of epochs that are behind a step, as far as run.json tells; None where it does not."""
    try:
        options, lines = run.facts["options"], run.facts["splits"]["train"]["lines"]
        items = options["batch_size"] * options["grad_accum"] * run.facts["processes"]
        return int(step // max(1, lines // items))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def strip(run):
    """Return [(label, [(caption, address)])]: what validation (else training) looked like along the steps."""
    part = next((part for part in ("val", "train") if f"{part}/{PICTURE_TAGS[0]}" in run.pictures), None)
    told = []
    for tag in PICTURE_TAGS if part else ():
        kept = run.pictures.get(f"{part}/{tag}", [])
        if not kept:
            continue
        item = tag.rpartition("/")[2]
        places = sorted(set(np.linspace(0, len(kept) - 1, min(SHOWN_STEPS, len(kept))).round().astype(int)))
        target = run.pictures.get(f"{part}/target/{item}", [])
        pictures = [("image", target[-1][1])] if part == "val" and target else []
        pictures += [(_caption(run, kept[place][0]), kept[place][1]) for place in places]
        shown = [(caption, _recoded(content)) for caption, content in pictures]
        told.append((f"{'validation' if part == 'val' else 'training'} item {int(item) + 1}", shown))
    return told


def _caption(run, step):
    epoch = epoch_of(run, step)
    return f"step {step}" if not epoch else f"after {epoch} epoch{'s' if epoch > 1 else ''}, step {step}"


def _recoded(content):
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return page.picture(np.asarray(image.convert("RGB")))


def options_of(run):
    """Return [(name, text)] of all options of a run."""
    options = run.facts.get("options")
    return [(name, str(value)) for name, value in options.items()] if isinstance(options, dict) else []


def differing_options(runs):
    """Return [(name, [text of each run])] of the options that are not the same in all runs that recorded theirs.

    An option that some do not know, being older, and that is off in the others is the same in all.
    """
    tables = [dict(options_of(run)) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = [(name, [table.get(name, UNKNOWN) for table in tables]) for name in names]
    values = [{table.get(name, UNKNOWN) for table in tables if table} for name in names]
    differs = [len(each) > 1 and (UNKNOWN not in each or not each <= {UNKNOWN, *OFF}) for each in values]
    return [row for row, each in zip(rows, differs, strict=True) if each]


def summary_table(runs):
    """Return (labels, [(run, [(value, remark) under each label])]) of `summary` of several runs."""
    tables = [{label: (value, remark) for label, value, remark in summary(run)} for run in runs]
    labels = list(dict.fromkeys(label for table in tables for label in table))
    return labels, [(run, [table.get(label, (UNKNOWN, "")) for label in labels])
                    for run, table in zip(runs, tables, strict=True)]  # fmt: skip
