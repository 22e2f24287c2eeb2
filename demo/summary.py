"""The demonstration in four numbers: abs_rel of two guesses that never look at the image, and of the network.

    python -m demo.summary --baselines JSON --evaluation JSON --before NAME --after NAME
"""

import json
import os
import sys

from system.command_line import Parser, command
from system.errors import UserError


@command
def main(argv=None):
    """Print the four numbers; exit code 1 if training did not beat the rows' mean."""
    parser = Parser(prog="-m demo.summary", description=__doc__.splitlines()[0])
    parser.add_argument("--baselines", required=True, help="JSON of demo.baselines")
    parser.add_argument("--evaluation", required=True, help="JSON of evaluate_depth.py --all")
    parser.add_argument("--before", required=True, help="weights before training, by name")
    parser.add_argument("--after", required=True, help="weights after training, by name")
    opt = parser.parse_args(argv)
    baselines, runs = _read(opt.baselines), _read(opt.evaluation)
    by_name = {os.path.basename(run["predictions"]): run["metrics"]["abs_rel"] for run in runs}
    for name in (opt.before, opt.after):
        if name not in by_name:
            raise UserError("no such weights in the evaluation", name, f"choose one of {', '.join(by_name)}")
    guesses = {name: figures["abs_rel"] for name, figures in baselines.items()}
    networks = {"network before training": by_name[opt.before], "network after training": by_name[opt.after]}
    print("abs_rel on the held-out drive (lower is better)")
    for name, value in {**guesses, **networks}.items():
        print(f"  {name:<26}{value:.3f}")
    return 0 if by_name[opt.after] < min(*guesses.values(), by_name[opt.before]) else 1


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise UserError("no such file", path, "run demo.baselines and evaluate_depth.py --json first") from None
    except ValueError as error:
        raise UserError("not a JSON file", path, "write it again") from error


if __name__ == "__main__":
    sys.exit(main())
