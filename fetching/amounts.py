"""Numbers of bytes: as text, and as the progress of several downloads at once."""

import threading
import time

from progress import Progress, clock


class ByteProgress(Progress):
    """Progress in bytes that several threads report to; `done` bytes were there before the start.

    The total may be None where no server tells it.
    """

    def __init__(self, title, total, done=0, **options):
        super().__init__(title, total, "bytes", **options)
        self.done = self._before = done
        self._lock = threading.Lock()

    def advance(self, steps=1):
        with self._lock:
            super().advance(steps)

    def _tell(self, end):
        seconds = max(time.monotonic() - self.started, 1e-6)
        rate = (self.done - self._before) / seconds
        text = f"{self.title}: {size_text(self.done)}"
        if self.total:
            text += f" of {size_text(self.total)} ({100 * self.done / self.total:.0f}%)"
        text += f", {size_text(rate)} a second"
        if self.total and rate > 0 and self.done < self.total:
            text += f", {clock((self.total - self.done) / rate)} left"
        print(f"\x1b[2K{text}" if self.terminal else text, end=end, file=self.stream, flush=True)


def size_text(count):
    """Return a number of bytes as people read it: 1.5 GB, 320.0 MB (powers of ten, as disks are sold)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
