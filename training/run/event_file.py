"""A TensorBoard event file, written at once and by this thread: an error of the disk is met where it happens.

tensorboardX's own writer hands events to a thread, which a full disk kills, and after it waits for ever.
"""

import contextlib
import os
import socket
import time

from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

PREFIX = "events.out.tfevents."


def _after_others(folder):
    """Return the time now, or one after the newest event file's where the clock was set back: readers sort by it."""
    stamps = [name.removeprefix(PREFIX).partition(".")[0] for name in os.listdir(folder) if name.startswith(PREFIX)]
    return max([time.time(), *(int(stamp) + 1.0 for stamp in stamps if stamp.isdecimal() and len(stamp) < 12)])


class EventFile:
    """One event file in `folder`.

    Args:
        folder: made if missing.
        first_step: entries of earlier files at this step and later are no longer shown; None: all are.

    Raises:
        OSError: it cannot be written, here and in every method.
    """

    def __init__(self, folder, first_step=None):
        os.makedirs(folder, exist_ok=True)
        self._began = _after_others(folder)
        self._clock = time.monotonic()  # a clock that is set back or forward in mid-run moves no entry
        name = f"{PREFIX}{int(self._began)}.{socket.gethostname()}.{os.getpid()}"
        self._path = os.path.join(folder, name)
        self._records = RecordWriter(self._path)
        self._write(Event(file_version="brain.Event:2"))
        if first_step is not None:
            self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))
        self._flush()

    def scalars(self, values, step):
        """Write {name: number}."""
        for name, value in values.items():
            self._write(Event(step=step, summary=summary.scalar(name, value)))
        self._flush()

    def text(self, name, text, step):
        """Write a text."""
        self._write(Event(step=step, summary=summary.text(name, text)))
        self._flush()

    def image(self, name, picture, step):
        """Write a picture, (H, W, 3) uint8."""
        self._write(Event(step=step, summary=summary.image(name, picture, dataformats="HWC")))

    def close(self):
        """Close the file."""
        self._flush()
        with self._naming_it():
            self._records.close()

    def _write(self, event):
        event.wall_time = self._began + time.monotonic() - self._clock
        with self._naming_it():
            self._records.write(event.SerializeToString())

    def _flush(self):
        with self._naming_it():
            self._records.flush()

    @contextlib.contextmanager
    def _naming_it(self):
        """Say in an OSError which file it is about, which those of writing do not."""
        try:
            yield
        except OSError as error:
            error.filename = error.filename or self._path
            raise
