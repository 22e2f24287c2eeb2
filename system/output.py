"""Standard output that may be closed, full, without a reader, or unable to write some letters."""

import contextlib
import logging
import os
import sys

from system.errors import UserError


def prepare_streams():
    """Make stdout and stderr usable: closed ones lead nowhere, letters that they cannot write become escapes."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number; else the next file opened would be stdout
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open as long as the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class OutputHandler(logging.StreamHandler):
    """Writes log lines to stdout; a line that cannot be written is an error and not a call stack on stderr.

    Raises:
        BrokenPipeError: nobody reads the output any more.
        UserError: it cannot be written, from a log call.
    """

    def __init__(self):
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter("%(message)s"))

    def handleError(self, record):
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            raise error
        if isinstance(error, OSError):
            raise unwritable(error) from error
        super().handleError(record)


def unwritable(error):
    """Return the `UserError` for an OSError that stdout met."""
    fix = "free some space there, or send the output elsewhere"
    return UserError("the output cannot be written", f"standard output: {error.strerror}", fix)


def flush():
    """Write out what stdout still holds; return the OSError that hindered it, or None.

    What could not be written is dropped, since the interpreter's exit would stumble over it once more.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return error
    except ValueError:  # closed by somebody else
        return None
    return None
