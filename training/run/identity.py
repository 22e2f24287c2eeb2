"""What has to be equal in a run that resumes another."""

from system.errors import UserError


def check_identity(mine, stored):
    """Compare what has to be equal in the run that resumes, two dicts of plain values.

    Raises:
        UserError: the first entry that differs.
    """
    for name, value in mine.items():
        if stored.get(name) != value:
            raise UserError(f"the run cannot go on with another {name}", f"{value}, was {stored.get(name)}",
                            "use the same options, data and number of processes, or start a new run")  # fmt: skip
