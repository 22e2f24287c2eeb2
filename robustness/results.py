"""The results file of an evaluation: grows cell by cell, so that an interrupted one goes on where it stopped."""

import json
import os

from evaluation import METRICS
from robustness import scores
from system import files
from system.errors import UserError

CLEAN = "clean"


class Results:
    """The finished cells of one evaluation, in a JSON file that is whole at any time.

    Args:
        path: of the file.
        identity: dict of what the figures depend on; another one's file is refused.
        restart: begin anew whatever is there.

    Raises:
        UserError: the file is another evaluation's, or no results file.
    """

    def __init__(self, path, identity, restart=False):
        self.path, self.identity, self.cells = path, identity, {}
        files.check_place(path, "--results")
        if os.path.exists(path) and not restart:
            self.cells = self._stored()

    def _stored(self):
        fix = "give another --results, or --restart to replace it"
        try:
            with files.open_regular(self.path, encoding="utf-8") as file:
                stored = json.load(file)
            identity, cells = stored["evaluation"], stored["cells"]
            {name: {metric: float(cell[metric]) for metric in METRICS} for name, cell in cells.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError("not a results file", self.path, fix) from None
        differing = [name for name in self.identity if identity.get(name) != self.identity[name]]
        if differing:
            name = differing[0]
            which = f"{self.path}: {name} {identity.get(name)} there, {self.identity[name]} here"
            raise UserError("the results file is another evaluation's", which, fix)
        return cells

    def has(self, name, severity):
        """Return whether a cell is finished."""
        return key(name, severity) in self.cells

    def add(self, name, severity, means):
        """Keep a cell's seven mean errors and write the file."""
        self.cells[key(name, severity)] = {metric: float(mean) for metric, mean in zip(METRICS, means, strict=True)}
        self._write({})

    def finish(self, corruptions, severities):
        """Write the scores over the cells asked for; return ({name: DEE}, DEE of the clean images)."""
        errors = {name: self._error([key(name, severity) for severity in severities]) for name in corruptions}
        clean = self._error([CLEAN])
        summary = {"severities": list(severities), "DEE": {CLEAN: clean, **errors}}
        if errors:
            summary["mCE"] = scores.mean_corruption_error(errors)
            summary["mRR"] = scores.mean_resilience_rate(errors, clean)
        self._write(summary)
        return errors, clean

    def _error(self, keys):
        return float(scores.mean_error((self.cells[each]["abs_rel"], self.cells[each]["a1"]) for each in keys))

    def _write(self, summary):
        files.write_json(self.path, {"evaluation": self.identity, **summary, "cells": self.cells})


def key(name, severity):
    """Return a cell's name in the file: fog/3, or clean."""
    return f"{name}/{severity}" if name else CLEAN
