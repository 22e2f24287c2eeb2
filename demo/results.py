"""Reading the JSON files that evaluate_depth.py --json and demo.baselines --json write."""

import json
import os

from system.errors import UserError
from system.files import open_regular


def abs_rel_of_runs(path):
    """Return {name of the weights: abs_rel} of an evaluation of several weights.

    Raises:
        UserError: no such file, or none that `evaluate_depth.py --all --json` wrote.
    """
    runs = read_json(path)
    try:
        return {os.path.basename(run["predictions"]): float(run["metrics"]["abs_rel"]) for run in runs}
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError("not an evaluation of several weights", path, "write it with evaluate_depth.py --all") from None


def abs_rel_of_guesses(path):
    """Return {guess: abs_rel}.

    Raises:
        UserError: no such file, or none that demo.baselines wrote.
    """
    guesses = read_json(path)
    try:
        return {name: float(figures["abs_rel"]) for name, figures in guesses.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError("not the figures of demo.baselines", path, "write it with demo.baselines --json") from None


def read_json(path):
    """Return what a JSON file holds. Raises UserError where it is missing or broken."""
    try:
        with open_regular(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise UserError("no such file", path, "run demo.baselines and evaluate_depth.py --json first") from None
    except (ValueError, RecursionError):
        raise UserError("not a JSON file", path, "write it again") from None
