"""The optional packages that deployment needs: asked for by name, missing ones told in one line. Free of torch."""

import importlib
import logging
import warnings

from system.errors import UserError

REQUIREMENTS = "requirements-export.txt"


def need(*names):
    """Import packages; return them.

    Raises:
        UserError: one of them is not installed, or does not work here.
    """
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            missing = name if error.name in (None, name) else f"{error.name}, for {name}"
            raise UserError("a package that exporting needs is missing", missing,
                            f"run pip install -r {REQUIREMENTS}") from None  # fmt: skip
    return found if len(found) > 1 else found[0]


class Quiet:
    """Within a `with` block, warnings and log lines below errors are not shown: exporters are talkative."""

    def __enter__(self):
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error):
        logging.disable(self.before)
        self.caught.__exit__(*error)
