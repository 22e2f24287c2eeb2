"""How far a job is: tqdm's bar on a terminal, a line now and then in a log file."""

import sys
import time

from tqdm import tqdm

TERMINAL_PERIOD, FILE_PERIOD = 0.2, 15.0  # seconds between two updates
PATIENCE = 0.5  # seconds that a job may take without a word


class Progress(tqdm):
    """A bar over a known number of steps, for a `with` block.

    Args:
        title: what is being done.
        total: number of steps; None where nobody knows.
        unit: what a step is, in the plural.
        quiet: print nothing.
        stream: where to print, stdout by default: stderr is kept for what is wrong.
        options: of tqdm.
    """

    def __init__(self, title, total, unit="steps", quiet=False, stream=None, **options):
        stream = stream or sys.stdout
        period = TERMINAL_PERIOD if stream.isatty() else FILE_PERIOD
        options = {"unit": f" {unit}", "mininterval": period, "maxinterval": period, "delay": PATIENCE, **options}
        super().__init__(desc=title, total=total, disable=quiet, file=stream, **options)
        self._time = time.monotonic  # a clock that is set back would silence it, and make what is left negative
        self.start_t = self.last_print_t = self._time()

    def advance(self, steps=1):
        """Count `steps` more; threads may do so at once."""
        with self.get_lock():
            self.update(steps)

    def over(self, iterable):
        """Yield from `iterable`, counting each item when it has been used."""
        for item in iterable:
            yield item
            self.advance()


def byte_progress(title, total, done=0, **options):
    """Return a `Progress` in bytes, of which `done` were there before the start."""
    return Progress(title, total, initial=done, unit_scale=True, unit_divisor=1000, **options | {"unit": "B"})
