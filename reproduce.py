"""Measure the published models on the KITTI Eigen split and compare them with the published table.

python reproduce.py --data_path kitti_data
"""

import os
import sys

from checkpointing.published import SHARES_VARIABLE, WEIGHTS
from evaluate_depth import evaluate
from evaluation import METRICS
from options import ROOT
from system import errors, files
from system.command_line import Parser, command, positive, whole
from system.devices import NAMES as DEVICES


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
    from evaluation import reproduction

    reproduction.check_data(options)
    rows = [reproduction.measured_row(name, options, evaluate) for name in options.models]
    print("\n".join(reproduction.table(rows)))
    if options.json:
        files.write_json(options.json, {"split": options.eval_split, "metrics": list(METRICS), "rows": rows})
        print(f"rows written to {options.json}")
    if all(row["skipped"] for row in rows):
        raise errors.UserError("no row could be reproduced", rows[0]["name"], rows[0]["skipped"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
