"""A steady line on stderr for work that takes a while: how much is done, how fast, how long it will take."""

import sys
import time

TERMINAL_PERIOD = 0.2  # seconds between two updates of a terminal's line
FILE_PERIOD = 15.0  # seconds between two lines in a log file


class Progress:
    """Counts steps of a known number; used in a `with` block, so that the line always ends.

    Args:
        title: what is being done.
        total: number of steps.
        unit: what a step is, in the plural.
        quiet: print nothing.
        stream: where to print, stderr by default.
    """

    def __init__(self, title, total, unit="steps", quiet=False, stream=None):
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.stream = stream or sys.stderr
        self.done = 0
        self.terminal = self.stream.isatty()
        self.started = self.told = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.quiet or not self.done:
            return
        if kind is None:
            self._tell(end="\n")
        elif self.terminal and self.told > self.started:  # the mistake's line must not land on ours
            print(file=self.stream)

    def advance(self, steps=1):
        """Count `steps` more; prints when it is time."""
        self.done += steps
        now = time.monotonic()
        if not self.quiet and now - self.told >= (TERMINAL_PERIOD if self.terminal else FILE_PERIOD):
            self.told = now
            self._tell(end="\r" if self.terminal else "\n")

    def over(self, iterable):
        """Yield from `iterable`, counting each item when it has been used."""
        for item in iterable:
            yield item
            self.advance()

    def _tell(self, end):
        seconds = max(time.monotonic() - self.started, 1e-6)
        rate = self.done / seconds
        text = f"{self.title}: {self.done} of {self.total} {self.unit}, {rate:.1f} a second"
        text += f", {clock((self.total - self.done) / max(rate, 1e-9))} left" if self.done < self.total else ""
        text += f", took {clock(seconds)}" if self.done >= self.total else ""
        print(f"\x1b[2K{text}" if self.terminal else text, end=end, file=self.stream, flush=True)


def clock(seconds):
    """Return seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
