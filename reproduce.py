"""Measure the published models on the KITTI Eigen split and compare them with the published table.

python reproduce.py --data_path kitti_data
"""

import argparse
import os
import sys

from checkpointing.published import SHARES_VARIABLE, WEIGHTS, weights_folder
from evaluation import METRICS
from options import ROOT
from system import errors, files
from system.command_line import Parser, command, positive, whole
from system.devices import NAMES as DEVICES

TOLERANCE = 0.0015  # the table has three decimals; other libraries may move the last


def parser():
    """Return the command line's parser."""
    epilog = f"The weights come from the published shares, or from the server that ${SHARES_VARIABLE} names."
    made = Parser(prog="reproduce.py", description=__doc__.splitlines()[0], epilog=epilog)
    made.add_argument("--data_path", default=os.path.join(ROOT, "kitti_data"), metavar="DIR",
                      help="root of KITTI raw; default: kitti_data beside options.py")  # fmt: skip
    made.add_argument(
        "--models",
        nargs="+",
        default=list(WEIGHTS),
        choices=list(WEIGHTS),
        metavar="NAME",
        help=f"rows of the table, of {', '.join(WEIGHTS)}",
    )
    made.add_argument("--eval_split", default="eigen", help="the split; the published figures are those of eigen")
    made.add_argument("--json", metavar="FILE", help="also write the rows here")
    Parser.flag(made, "png", help="read .png images; the published figures belong to JPEGs")
    Parser.flag(made, "no_cuda", help="stay on the CPU")
    made.add_argument("--device", help=f"device to compute on: {DEVICES}; by default a GPU where there is one")
    Parser.flag(made, "verbose", help="show what each evaluation prints")
    made.add_argument("--batch_size", type=positive, default=16, help="images at once")
    made.add_argument("--num_workers", type=whole, default=12, help="threads that read images")
    return made


@command
def main(argv=None):
    """Evaluate the rows, print the comparison; see the module's docstring."""
    options = parser().parse_args(argv)
    files.refuse_as_output(options.json, (".json",), "--json")
    check_data(options)
    rows = [measured_row(name, options) for name in options.models]
    print("\n".join(table(rows)))
    if options.json:
        files.write_json(options.json, {"split": options.eval_split, "metrics": list(METRICS), "rows": rows})
        print(f"rows written to {options.json}")
    if all(row["skipped"] for row in rows):
        raise errors.UserError("no row could be reproduced", rows[0]["name"], rows[0]["skipped"])
    return 0


def check_data(options):
    """Raise `UserError` unless the split's images and scans are there, before any weights are fetched."""
    from datasets.splits import resolve_split
    from evaluation import ground_truth, presence

    split = resolve_split(options.eval_split)
    lines = split.lines("test")
    presence.check_images(options.data_path, split, lines, options.png)
    ground_truth.check(options.data_path, split, lines)


def measured_row(name, options):
    """Return one row as a dict: name, published, measured and difference (lists of seven), or why it was skipped."""
    row = {
        "name": name,
        "published": list(WEIGHTS[name].results),
        "measured": None,
        "difference": None,
        "skipped": None,
    }
    print(f"{name} ...", flush=True)
    try:
        means = _evaluated(name, options)
    except errors.UserError as problem:
        print(f"{name}: skipped: {problem}")
        return {**row, "skipped": str(problem)}
    measured = [float(mean) for mean in means]
    difference = [here - there for here, there in zip(measured, row["published"], strict=True)]
    return {**row, "measured": measured, "difference": difference}


def _evaluated(name, options):
    folder = weights_folder(name)  # first, so that a dead link costs no loading of libraries
    from evaluate_depth import evaluate

    names = ("data_path", "eval_split", "png", "no_cuda", "device", "batch_size", "num_workers")
    own = {name: getattr(options, name) for name in names}
    opt = argparse.Namespace(load_weights_folder=folder, model=WEIGHTS[name].model, **own)
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


if __name__ == "__main__":
    sys.exit(main())
