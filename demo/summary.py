"""The demonstration in four numbers: abs_rel of two guesses that never look at the image, and of the network.

    python -m demo.summary --baselines JSON --evaluation JSON --before NAME --after NAME
"""

import sys

from demo.results import abs_rel_of_guesses, abs_rel_of_runs
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
    guesses, by_name = abs_rel_of_guesses(opt.baselines), abs_rel_of_runs(opt.evaluation)
    for name in (opt.before, opt.after):
        if name not in by_name:
            raise UserError("no such weights in the evaluation", name, f"choose one of {', '.join(by_name)}")
    networks = {"network before training": by_name[opt.before], "network after training": by_name[opt.after]}
    print("abs_rel on the held-out drive (lower is better)")
    for name, value in {**guesses, **networks}.items():
        print(f"  {name:<26}{value:.3f}")
    return 0 if by_name[opt.after] < min(*guesses.values(), by_name[opt.before]) else 1


if __name__ == "__main__":
    sys.exit(main())
