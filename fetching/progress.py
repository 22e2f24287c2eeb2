"""One steady line about a long task: how much is done, how fast, and the time left."""

import sys
import threading
import time


class Progress:
    """Counts what several threads report and writes a line now and then.

    Args:
        label: what is being done.
        total: of the unit, or None where unknown.
        unit: "bytes" (shown in MB or GB) or a plural noun.
        stream: where to write; None for stderr.
    On a terminal the line renews itself twice a second; into a file a line is written every ten seconds.
    """

    def __init__(self, label, total, unit="bytes", done=0, stream=None):
        self.label, self.total, self.unit = label, total, unit
        self.stream = stream or sys.stderr
        self.done, self._at_start = done, done
        self._started = self._shown = time.monotonic()
        self._lock = threading.Lock()
        self._live = self.stream.isatty()
        self._wrote = False

    def add(self, count=1):
        """Report `count` more units (fewer, when negative)."""
        with self._lock:
            self.done += count
            now = time.monotonic()
            if now - self._shown >= (0.5 if self._live else 10.0):
                self._shown = now
                self._write("\r" if self._live else "", "" if self._live else "\n")

    def close(self):
        """Write the last state of a line that was shown before."""
        with self._lock:
            if self._wrote:
                self._write("\r" if self._live else "", "\n")

    def line(self):
        """Return the text of the line as it stands."""
        seconds = max(time.monotonic() - self._started, 1e-6)
        rate = (self.done - self._at_start) / seconds
        parts = [f"{self.label}: {self._amount(self.done)}"]
        if self.total:
            parts[0] += f" of {self._amount(self.total)} ({100 * self.done / self.total:.0f}%)"
        parts.append(f"{self._amount(rate)}/s")
        if self.total and rate > 0:
            parts.append(f"{duration(max(0, self.total - self.done) / rate)} left")
        return ", ".join(parts)

    def _amount(self, value):
        return size_text(value) if self.unit == "bytes" else f"{value:.0f} {self.unit}"

    def _write(self, before, after):
        self._wrote = True
        self.stream.write(f"{before}{self.line():<78}{after}")
        self.stream.flush()


def size_text(count):
    """Return a number of bytes as people read it: 1.5 GB, 320.0 MB (powers of ten, as disks are sold)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds):
    """Return seconds as 2 h 05 min, 3 min 20 s or 12 s."""
    minutes, rest = divmod(int(round(seconds)), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
