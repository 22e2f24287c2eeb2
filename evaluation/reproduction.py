"""The published table again: each row's weights evaluated here, beside what the paper's authors measured with them."""

import argparse

from checkpointing.fetched import weights_folder
from checkpointing.published import WEIGHTS
from datasets.splits import resolve_split
from evaluation import METRICS, ground_truth, presence
from system.errors import UserError

TOLERANCE = 0.0015  # the table has three decimals; other libraries may move the last


def check_data(options):
    """Raise `UserError` unless the split's images and scans are there, before any weights are fetched."""
    split = resolve_split(options.eval_split)
    lines = split.lines("test")
    presence.check_images(options.data_path, split, lines, options.png)
    ground_truth.check(options.data_path, split, lines)


def measured_row(name, options, evaluate):
    """Return one row as a dict: name, published, measured and difference (lists of seven), or why it was skipped.

    Args:
        name: of the weights, one of `WEIGHTS`.
        options: the command's namespace.
        evaluate: `evaluate_depth.evaluate`, which knows the defaults of its command.
    """
    row = {
        "name": name,
        "published": list(WEIGHTS[name].results),
        "measured": None,
        "difference": None,
        "skipped": None,
    }
    print(f"{name} ...", flush=True)
    try:
        means = _evaluated(name, options, evaluate)
    except UserError as problem:
        print(f"{name}: skipped: {problem}")
        return {**row, "skipped": str(problem)}
    measured = [float(mean) for mean in means]
    difference = [here - there for here, there in zip(measured, row["published"], strict=True)]
    return {**row, "measured": measured, "difference": difference}


def _evaluated(name, options, evaluate):
    names = ("data_path", "eval_split", "png", "no_cuda", "device", "batch_size", "num_workers")
    own = {name: getattr(options, name) for name in names}
    opt = argparse.Namespace(load_weights_folder=weights_folder(name), model=WEIGHTS[name].model, **own)
    return evaluate(opt, tell=print if options.verbose else None)[0].means


def table(rows):
    """Return the lines of the comparison."""
    label = max(len(row["name"]) for row in rows) + 2
    lines = [f"{'':<{label + 11}}" + "".join(f"{metric:>9}" for metric in METRICS)]
    for row in rows:
        for what, sign in (("published", ""), ("measured", ""), ("difference", "+")):
            if row[what]:
                numbers = "".join(f"{value:{sign}9.3f}" for value in row[what])
                lines.append(f"{row['name'] if what == 'published' else '':<{label}}{what:<11}{numbers}")
        if row["skipped"]:
            lines.append(f"{'':<{label}}skipped    {row['skipped']}")
    done = [row for row in rows if row["difference"]]
    agreeing = sum(all(abs(value) <= TOLERANCE for value in row["difference"]) for row in done)
    lines.append(f"{len(done)} of {len(rows)} rows measured, {agreeing} of them agree to the third decimal")
    return lines
