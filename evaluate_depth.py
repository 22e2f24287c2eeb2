"""Evaluate depth on a KITTI split: weights or stored disparities against LiDAR, the seven standard metrics.

    python evaluate_depth.py --load_weights_folder WEIGHTS --data_path DATA
"""

import argparse
import sys

from evaluation import report
from evaluation.metrics import compute_errors
from inference.post_processing import batch_post_process_disparity
from options import LiteMonoOptions
from system import files
from system.command_line import command, first_speaks

__all__ = ("batch_post_process_disparity", "compute_errors", "evaluate", "main")


@command
def main(argv=None):
    """Run the command line."""
    with first_speaks():
        opt = LiteMonoOptions("evaluate_depth.py").parse(argv)
        for flag, endings in (("csv", (".csv", ".tsv")), ("json", (".json",))):
            files.refuse_as_output(getattr(opt, flag), endings, f"--{flag}")
        files.refuse_same(("--csv", opt.csv), ("--json", opt.json), ("--report", opt.report))
        if opt.report or opt.plots:
            from reports import evaluation_page

            evaluation_page.prepare(opt)
    from evaluation.evaluate import evaluate_shared

    evaluations = evaluate_shared(opt, tell=print)
    if evaluations is None:
        return 0
    print("".join(f"{line}\n" for line in report.lines(evaluations)), end="")
    if opt.csv:
        report.write_csv(opt.csv, evaluations)
        print(f"results of every image written to {opt.csv}")
    if opt.json:
        report.write_json(opt.json, evaluations, as_list=opt.all or len(evaluations) > 1)
        print(f"summary written to {opt.json}")
    if opt.report or opt.plots:
        evaluation_page.write(opt, evaluations, tell=print)
    return 0


def evaluate(opt, tell=None):
    """As `evaluation.evaluate.evaluate`; options that `opt` lacks take their defaults."""
    from evaluation.evaluate import evaluate as evaluate_complete

    defaults = vars(LiteMonoOptions("evaluate_depth.py").parser.parse_args([]))
    return evaluate_complete(argparse.Namespace(**{**defaults, **vars(opt)}), tell)


if __name__ == "__main__":
    sys.exit(main())
