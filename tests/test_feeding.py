"""Copies to a GPU one batch ahead: order, streams and errors; stand-ins for streams and events keep a diary."""

import contextlib

import pytest
import torch

from training.run.feeding import CopyAhead

DEVICE = torch.device("cuda", 0)


class Device:
    """A make-believe GPU: what is sent arrives when its stream is waited for, and only then may it be read."""

    def __init__(self, monkeypatch):
        self.diary, self.streams, self.arrived, self.current = [], ["compute"], set(), "compute"
        device = self

        class Stream:
            def __init__(self, _=None, name="copies"):
                self.name = name

            def wait_event(self, event):
                device.diary.append((self.name, "waits for", event.sent))
                device.arrived |= set(event.sent)

        class Event:
            def record(self, stream):
                assert device.current == stream.name == "copies"
                self.sent = tuple(device.pending)
                device.pending = []

        @contextlib.contextmanager
        def stream(chosen):
            before, device.current = device.current, chosen.name
            yield
            device.current = before

        def to(tensor, where, non_blocking=False):
            assert where == DEVICE and non_blocking and device.current == "copies"
            device.pending.append(int(tensor))
            device.diary.append(("copies", "sends", int(tensor)))
            return tensor.clone()

        def record_stream(tensor, by):
            device.diary.append(("allocator", "keeps for " + by.name, int(tensor)))

        self.pending = []
        for name, value in {"Stream": Stream, "Event": Event, "stream": stream,
                            "current_stream": lambda _: Stream(name="compute")}.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.Tensor, "to", to)
        monkeypatch.setattr(torch.Tensor, "record_stream", record_stream)


@pytest.fixture
def device(monkeypatch):
    return Device(monkeypatch)


def batches(count):
    for number in range(count):
        yield {"a": torch.tensor(number), "bad": []}


def test_the_next_batch_is_sent_before_the_one_at_hand_is_worked_on(device):
    for batch in CopyAhead(DEVICE)(batches(3)):
        number = int(batch["a"])
        assert number in device.arrived and batch["bad"] == []
        device.diary.append(("host", "works on", number))
    order = {(what, number): place for place, (_, what, number) in enumerate(device.diary)}
    for number in range(3):
        assert order["sends", number] < order["waits for", (number,)] < order["works on", number]
        assert order["keeps for compute", number] < order["works on", number]
        if number < 2:
            assert order["sends", number + 1] < order["works on", number]
            assert (number + 1,) not in [what for _, _, what in device.diary[: order["works on", number]]]
    assert [number for who, _, number in device.diary if who == "host"] == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_every_batch_comes_once(device, count):
    assert [int(batch["a"]) for batch in CopyAhead(DEVICE)(batches(count))] == list(range(count))


def test_no_more_than_one_batch_waits_on_the_device(device):
    taken = []

    def source():
        for batch in batches(10):
            taken.append(int(batch["a"]))
            yield batch

    ahead = CopyAhead(DEVICE)(source())
    for number in range(5):
        assert int(next(ahead)["a"]) == number and taken[-1] == number + 1
    ahead.close()
    assert taken == list(range(6))


def test_an_error_comes_after_the_batches_before_it(device):
    def source():
        yield from batches(2)
        raise RuntimeError("a worker is gone")

    seen = []
    with pytest.raises(RuntimeError, match="a worker is gone"):
        for batch in CopyAhead(DEVICE)(source()):
            seen.append(int(batch["a"]))
    assert seen == [0, 1]


def test_training_data_sends_ahead_on_cuda_alone(synthetic_drive, tmp_path, device):
    from system.distributed import Processes
    from tests.short_runs import arguments, options
    from training.data import TrainingData
    from training.model import DepthAndMotion
    from training.objective import make_objective

    opt = options(*arguments(synthetic_drive, tmp_path))
    objective = make_objective(opt, DepthAndMotion(opt))
    assert TrainingData(opt, objective, Processes(), torch.device("cpu"))._ahead is iter
    assert isinstance(TrainingData(opt, objective, Processes(), DEVICE)._ahead, CopyAhead)


@pytest.mark.parametrize("share, said", [(0, "data waits for the device"), (0.37, "the device waits for data 37%")])
def test_the_log_says_who_waits(share, said):
    from training.run.log import who_waits

    assert who_waits(share) == said
