"""A command line's parser and manners: one line on stderr for a mistake, exit code 2, never a traceback.

A mistake of the user's raises `UserError` where it is noticed; `command` turns it into the line and the code.
Programming mistakes are not caught: they keep their traceback. Options that take yes or no also stand bare: `--png`,
`--png true` and `--png false` all work.
"""

import argparse
import contextlib
import functools
import logging
import math
import os
import signal
import sys

from system import output, resources
from system.errors import ADVICE, UserError, UserErrors, from_os_error
from system.openmp import spin_briefly

EXIT_USER_ERROR = 2
DEEPEST = 500  # folders within one another that a path may name
EXIT_INTERRUPTED = 128 + signal.SIGINT
STARTED_BY = os.getppid()  # noted early: the process that started this one may die while torch is loaded

log = logging.getLogger(__name__)


class Stopped(SystemExit):
    """A signal asked the process to end: what is half done is undone on the way out."""


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

    def parse_known_args(self, args=None, namespace=None):
        args = [os.fspath(each) for each in (sys.argv[1:] if args is None else args)]
        options, rest = super().parse_known_args(args, namespace)
        if problems := list(self._unusable(options)):
            raise UserErrors(problems)
        return options, rest

    def _unusable(self, options):
        """Yield a `UserError` for every text among the options that is empty or that no file could be called."""
        for action in self._actions:
            value = getattr(options, action.dest, None)
            for text in value if isinstance(value, list) else [value]:
                name = max(action.option_strings, key=len, default=action.dest)
                if text == "" and action.default != "":
                    yield UserError(f"{name} is empty", "''", "give a value, or leave the option out")
                if isinstance(text, str) and "\0" in text:
                    yield UserError(f"{name} holds a zero byte", ascii(text), "give a name without it")
                if isinstance(text, str) and text.count(os.sep) > DEEPEST:  # folders are made by recursion
                    yield UserError(f"{name} is a path too deep", f"{text[:40]}...", "choose a shorter one")

    def tell_repeated(self, args=None):
        """Say in the log which options were given more than once with different values, and which value counts."""
        given = {}
        words = sys.argv[1:] if args is None else list(map(os.fspath, args))
        for place, word in enumerate(words):
            name, equals, value = word.partition("=")
            if name.startswith("--") and name != "--":
                after = [value] if equals else words[place + 1 : _next_option(words, place + 1)]
                given.setdefault(name, []).append(after)
        for name, values in given.items():
            if any(value != values[-1] for value in values):
                log.info("%s is given %d times: the last counts, %s", name, len(values), " ".join(values[-1]))

    def error(self, message):
        what, _, which = message.partition(": ")
        raise UserError(what, which or " ", f"see python {self.prog} --help")

    @staticmethod
    def flag(group, name, default=False, help=""):
        """Add a yes-or-no option that also stands bare."""
        group.add_argument(f"--{name}", nargs="?", const=True, default=default, type=boolean, metavar="BOOL", help=help)


def _next_option(words, start):
    return next((place for place in range(start, len(words)) if words[place].startswith("--")), len(words))


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
    plain = text.isascii() and text.isdigit() and len(text) < 20  # +5, 1_000 and a number of 5000 digits are slips
    value = int(text) if plain else least - 1
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
        output.prepare_streams()
        spin_briefly()
        logging.basicConfig(level=logging.INFO, handlers=[output.OutputHandler()])
        code, problem = EXIT_USER_ERROR, None
        try:
            with _ending_signals():
                code = main(argv) or 0
        except UserError as error:
            problem = error
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = EXIT_INTERRUPTED
        except Stopped as stop:
            print(f"stopped by {signal.Signals(stop.code - 128).name}", file=sys.stderr)
            code = stop.code
        except BrokenPipeError:  # the reader of our output (head, less) has left: nothing to say to it
            pass
        except OSError as error:
            if error.errno not in ADVICE:
                raise
            problem = from_os_error(error)
        except (MemoryError, RuntimeError, ImportError) as error:
            problem = resources.cause(error, os.path.basename(sys.argv[0]))
            if problem is None:
                raise
        unwritten = output.flush()
        if unwritten is not None and code == 0:
            code = EXIT_USER_ERROR
            problem = None if isinstance(unwritten, BrokenPipeError) else output.unwritable(unwritten)
        for each in getattr(problem, "problems", [problem] if problem else []):
            print(f"error: {each}", file=sys.stderr)
        return code

    return guarded


@contextlib.contextmanager
def _ending_signals():
    """Let SIGTERM and SIGHUP end the process by an exception, so that everything on the way out is tidied up."""

    def stop(signum, frame):
        raise Stopped(128 + signum)

    before = {}
    for signum in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):  # only the main thread may listen
            if signal.getsignal(signum) == signal.SIG_DFL:  # nohup has a say, and so has who calls this as a function
                before[signum] = signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def first_speaks():
    """Leave it to the first of torchrun's processes to tell a mistake that all of them see alike."""
    try:
        yield
    except UserError:
        if os.environ.get("RANK", "0") == "0":
            raise
        sys.exit(EXIT_USER_ERROR)


class Noted:
    """The first signal that asked to end, None so far; `raise_again` does what the signal asked for."""

    signum = None

    def __bool__(self):
        return self.signum is not None

    def raise_again(self):
        """End as the signal wanted it, where there was one."""
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum is not None:
            raise Stopped(128 + self.signum)


@contextlib.contextmanager
def noting_signals():
    """Yield a `Noted` that SIGINT, SIGTERM and SIGHUP are written down in, for work that has to be brought to an end.

    The caller looks at it now and then. Outside the main thread, and for signals that are ignored, nothing changes.
    """
    noted, before = Noted(), {}

    def note(signum, frame):
        noted.signum = noted.signum or signum

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):
            if signal.getsignal(signum) != signal.SIG_IGN:
                before[signum] = signal.signal(signum, note)
    try:
        yield noted
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
