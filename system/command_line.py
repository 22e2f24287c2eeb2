"""A command line's parser and manners: one line on stderr for a mistake, exit code 2, never a traceback.

A mistake of the user's raises `UserError` where it is noticed; `command` turns it into the line and the code.
Programming mistakes are not caught: they keep their traceback. Options that take yes or no also stand bare: `--png`,
`--png true` and `--png false` all work.
"""

import argparse
import functools
import logging
import math
import sys

from system.errors import ADVICE, UserError, from_os_error

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults that say something; a text that names its default itself is left as it is."""

    def _get_help_string(self, action):
        speaks = action.default is not None and action.default is not False and "default:" not in action.help
        return super()._get_help_string(action) if speaks else action.help


class Parser(argparse.ArgumentParser):
    """An argument parser with the project's error manners and short helpers for its two common kinds of option."""

    def __init__(self, **settings):
        settings.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message):
        what, _, which = message.partition(": ")
        raise UserError(what, which or " ", f"see python {self.prog} --help")

    @staticmethod
    def flag(group, name, default=False, help=""):
        """Add a yes-or-no option that also stands bare."""
        group.add_argument(f"--{name}", nargs="?", const=True, default=default, type=boolean, metavar="BOOL", help=help)


def boolean(text):
    """Read true or false (also yes/no, 1/0, on/off). Raises ArgumentTypeError."""
    words = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def positive(text):
    """Read a whole number of at least 1."""
    return _whole(text, 1)


def whole(text):
    """Read a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text, least):
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return value


def positive_number(text):
    """Read a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def command(main):
    """Decorate an entry point `main(argv=None) -> int` with the project's error manners."""

    @functools.wraps(main)
    def guarded(argv=None):
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        try:
            return main(argv) or 0
        except UserError as error:
            problem = error
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except BrokenPipeError:  # the reader of our output (head, less) has left: nothing to say to it
            sys.stderr.close()
            return EXIT_USER_ERROR
        except OSError as error:
            if error.errno not in ADVICE:
                raise
            problem = from_os_error(error)
        for each in getattr(problem, "problems", [problem]):
            print(f"error: {each}", file=sys.stderr)
        return EXIT_USER_ERROR

    return guarded
