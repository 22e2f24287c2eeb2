"""Numbers that are not finite end a run, in one line that names the report: not_finite.json in the run's folder."""

import contextlib
import math
import os

from system.errors import NotFinite, UserError
from system.files import write_json


def stop_unless_finite(what, value, path, report):
    """Raise UserError unless a number is finite, after writing what `report` returns (with a "step") to `path`."""
    if math.isfinite(value):
        return
    entries = {"what": what, "value": str(value), **report()}
    write_json(path, entries)
    raise UserError(f"the {what} is not finite", f"step {entries['step']}: {value}",
                    f"see {path}; lower --lr, or --amp off, and continue with --resume")  # fmt: skip


class FiniteCheck:
    """Stops a run where one of its numbers is not finite.

    Args:
        path: of the report.
        facts: function (the batches at hand) -> what the report says of the run, with a "step".
    """

    def __init__(self, path, facts):
        self.path, self.facts = path, facts

    def refuse(self, what, value, batches=()):
        """Raise UserError unless `value` is finite; `what` names it."""
        stop_unless_finite(what, value, self.path, lambda: self.facts(batches))

    @contextlib.contextmanager
    def as_one_line(self, batches=()):
        """Turn a FloatingPointError of the block, whose text says what is not finite, into the same UserError."""
        try:
            yield
        except FloatingPointError as error:
            self.refuse(str(error), math.nan, batches)


@contextlib.contextmanager
def reporting_not_finite(run, processes):
    """Write a file's `NotFinite` weights, moments or state into the run's not_finite.json, and name that in the error.

    Args:
        run: `folder.RunFolder`; where another process trains in it, or it cannot be written to, it stays as it is.
        processes: `distributed.Processes`; the first one writes.

    Raises:
        UserError: the file's numbers are not finite.
    """
    try:
        yield
    except NotFinite as problem:
        if not processes.is_first:
            raise
        with run.claimed() as ours:
            if not ours:
                raise
            entries = {"what": problem.what, "file": os.path.abspath(problem.path), "entry": problem.entry}
            with contextlib.suppress(UserError):
                write_json(run.not_finite, entries)
                problem.fix = f"see {run.not_finite}; {problem.fix}"
        raise
