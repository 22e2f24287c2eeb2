"""Clocks that are set back or forward in mid-run: what is left stays positive, and no entry of a log is lost."""

import io
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from system.progress import Progress
from training.run.event_file import EventFile


def test_progress_does_not_ask_the_clock_on_the_wall(monkeypatch):
    hours = iter(range(10**6, 0, -100))
    monkeypatch.setattr("time.time", lambda: 3600.0 * next(hours))
    monkeypatch.setattr("tqdm.std.time", time.time)
    stream = io.StringIO()
    with Progress("made", 4, "things", stream=stream, mininterval=0, maxinterval=1, delay=0) as progress:
        for _ in range(4):
            progress.advance()
    assert "4/4" in stream.getvalue() and "-" not in stream.getvalue(), stream.getvalue()


def test_a_run_that_is_resumed_in_the_past_keeps_its_curve(tmp_path, monkeypatch):
    for start, now in ((None, 2e9), (3, 1.0), (6, 1.9e9)):  # the second on a machine whose clock begins in 1970
        monkeypatch.setattr("time.time", lambda now=now: now)
        file = EventFile(tmp_path, start)
        first = start or 0
        for step in range(first, first + 4):  # the last of each is written again by the next
            monkeypatch.setattr("time.time", lambda now=now, step=step: now - 3600 * step)
            file.scalars({"loss": step + first / 100}, step)
        file.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    found = reader.Scalars("loss")
    assert [each.step for each in found] == list(range(10))
    assert [round(each.value, 2) for each in found] == [0, 1, 2, 3.03, 4.03, 5.03, 6.06, 7.06, 8.06, 9.06]
    times = [each.wall_time for each in found]
    assert times == sorted(times)
