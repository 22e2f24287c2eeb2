"""What a run says and writes down: a steady line on the terminal, and TensorBoard under <run>/train and <run>/val."""

import logging
import os
import time

from training.pictures import training_pictures
from training.run.event_file import EventFile

log = logging.getLogger(__name__)

LINE_SECONDS = 10  # between two lines on the terminal
OVERLOADED = 0.4  # share of the time waited for a core; half where every core is shared with one other program
DATA_READY = 0.05  # share of the time waited for data below which loading is no bound
PICTURES = 2  # items of a batch shown in TensorBoard


class RunLog:
    """Owns the writers and the clock. Silent where `folder` is None (all processes but the first)."""

    def __init__(self, folder, first_step=0):
        self._writers = {}
        if folder is not None:
            for part in ("train", "val"):
                self._writers[part] = EventFile(os.path.join(folder, part), first_step + 1 if first_step else None)
        self.clock = Clock()
        self._cores, self._overloaded = CoreClock(), False

    @property
    def speaks(self):
        return bool(self._writers)

    def scalars(self, part, step, values):
        """Write {name: number} of "train" or "val"."""
        if self.speaks:
            self._writers[part].scalars(values, step)

    def alarm(self, name, message, step):
        """Write an alarm: a text, and a mark on the time line."""
        if self.speaks:
            self._writers["train"].text(f"alarm/{name}", message, step)
            self._writers["train"].scalars({f"alarm/{name}": 1}, step)

    def pictures(self, part, step, inputs, outputs, sources, scales):
        """Write target, warped sources, disparity and auto-mask of the first items of a batch."""
        if self.speaks:
            for name, picture in training_pictures(inputs, outputs, sources, scales, PICTURES):
                self._writers[part].image(name, picture, step)

    def line(self, epoch, step_in_epoch, steps_in_epoch, steps_left, loss, force=False):
        """Say where the run is, every LINE_SECONDS at most."""
        if not self.speaks or not (force or self.clock.line_is_due()):
            return
        rate, waiting, seconds = self.clock.look()
        log.info("epoch %d  step %d/%d  loss %.4f  %.1f images/s  %s  left %s", epoch, step_in_epoch, steps_in_epoch,
                 loss, rate, who_waits(waiting), duration(steps_left * seconds))  # fmt: skip
        self._tell_overload()

    def _tell_overload(self):
        """Say once, until it has been quiet again, that others hold the cores that this run needs."""
        share = self._cores.share_waited()
        if share > OVERLOADED and not self._overloaded:
            log.info("this machine is overloaded: the run waited %.0f%% of its time for a core; stop other programs, "
                     "or lower --num_workers and the threads (OMP_NUM_THREADS)", 100 * share)  # fmt: skip
        self._overloaded = share > OVERLOADED

    def close(self):
        for writer in self._writers.values():
            writer.close()


def who_waits(share):
    """Say which of the two waits for the other, for the share of the time in which training waited for data."""
    return "data waits for the device" if share < DATA_READY else f"the device waits for data {share:.0%}"


class Clock:
    """Measures images per second, seconds per step and the share of waiting for data since the last look."""

    def __init__(self):
        self._last_line = float("-inf")
        self._reset()

    def _reset(self):
        self._began, self._images, self._waited, self._steps = time.monotonic(), 0, 0.0, 0

    def count(self, images, waited):
        """Count a step: its images, and the seconds it waited for them."""
        self._images, self._waited, self._steps = self._images + images, self._waited + waited, self._steps + 1

    def line_is_due(self):
        return time.monotonic() - self._last_line >= LINE_SECONDS

    def rates(self):
        """Return (images per second, share of waiting, seconds per step) since the last look."""
        passed = max(time.monotonic() - self._began, 1e-9)
        return self._images / passed, self._waited / passed, passed / max(self._steps, 1)

    def look(self):
        """As `rates`, and start anew."""
        rates = self.rates()
        self._last_line = time.monotonic()
        self._reset()
        return rates


class CoreClock:
    """Measures how long this process's main thread was ready to run while others held the cores (Linux tells)."""

    def __init__(self, path="/proc/self/schedstat"):
        self._path = path
        self._ran, self._waited = self._read()

    def _read(self):
        try:
            with open(self._path, encoding="ascii") as file:
                ran, waited, *_ = map(int, file.read().split())
        except (OSError, ValueError):
            return 0, 0
        return ran, waited

    def share_waited(self):
        """Return waiting / (running + waiting) since the last call, 0 where the system does not tell."""
        ran, waited = self._read()
        passed, waiting = ran - self._ran + waited - self._waited, waited - self._waited
        self._ran, self._waited = ran, waited
        return waiting / passed if passed > 0 else 0.0


def duration(seconds):
    """Return a length of time as people say it: 45 s, 12 min, 3 h 05 min, 2 d 04 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02d} h"
