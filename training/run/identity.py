"""What has to be equal in a run that resumes another: every option but those named free, processes, and data."""

from system.errors import UserError


def identity(opt, free, **facts):
    """Return what has to be equal in the run that resumes, as plain values.

    Args:
        opt: the options, a namespace.
        free: names of options that may differ: where things lie, how fast they are read, what is written how often.
        facts: what else has to be equal, such as the number of processes.
    """
    return {name: _plain(value) for name, value in vars(opt).items() if name not in free} | facts


def _plain(value):
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def check_identity(mine, stored, way_out):
    """Compare what has to be equal in the run that resumes, two dicts of plain values.

    Args:
        way_out: what to do where the difference is meant.

    Raises:
        UserError: the first entry that differs.
    """
    for name in [*mine, *(each for each in stored if each not in mine)]:
        value, before = mine.get(name, "not known"), stored.get(name, "not recorded")
        if value != before:
            raise UserError(f"the run cannot go on with another {name}", f"{value}, was {before}",
                            f"use the same options, data and number of processes, or {way_out}")  # fmt: skip
