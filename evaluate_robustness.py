"""Evaluate depth under corrupted images: KITTI-C as RoboDepth defines it, 18 corruptions at 5 severities, mCE and mRR.

    python evaluate_robustness.py --load_weights_folder WEIGHTS --data_path KITTI
"""

import os
import sys

from networks.model_table import MODELS
from robustness import CORRUPTIONS, SEVERITIES
from system.command_line import Parser, command, positive, whole
from system.devices import NAMES as DEVICES

ROOT = os.path.dirname(os.path.abspath(__file__))


def parser():
    """Return the command line's parser."""
    made = Parser(prog="evaluate_robustness.py", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--load_weights_folder", required=True, metavar="DIR", help="weights folder, or a published name")
    add("--model", choices=list(MODELS), help="which Lite-Mono model; default: what the weights are")
    add("--data_path", default=os.path.join(ROOT, "kitti_data"), metavar="DIR", help="root of KITTI raw")
    add("--eval_split", default="eigen", help="eigen, or a folder with test_files.txt")
    add("--corruptions", nargs="*", default=list(CORRUPTIONS), choices=CORRUPTIONS, metavar="NAME",
        help=f"of {', '.join(CORRUPTIONS)}")  # fmt: skip
    add("--severities", nargs="+", type=int, default=list(SEVERITIES), choices=SEVERITIES, metavar="S", help="1 to 5")
    add("--seed", type=whole, default=0, help="of everything random; the number of processes changes nothing")
    add("--results", metavar="FILE", help="results, also of an unfinished evaluation, which goes on from there; "
        "default: robustness_<split>.json in the weights folder")  # fmt: skip
    Parser.flag(made, "restart", help="begin anew instead of going on")
    add("--cache", metavar="DIR", help="keep the corrupted images here as PNG, and read those that are there")
    Parser.flag(made, "png", help="read .png images instead of .jpg")
    Parser.flag(made, "no_cuda", help="stay on the CPU")
    add("--device", help=f"device to compute on: {DEVICES}; by default a GPU where there is one")
    add("--batch_size", type=positive, default=8, help="images at once")
    add("--num_workers", type=whole, help="processes that make images; default: one a core, eight at most")
    return made


@command
def main(argv=None):
    """Run the command line."""
    options = parser().parse_args(argv)
    options.corruptions = [name for name in CORRUPTIONS if name in options.corruptions]
    options.severities = sorted(set(options.severities))
    from robustness import run

    run.evaluate(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
