"""Steps that are recorded as a CUDA graph: the same run, with stand-ins for capture and replay (no GPU has run it)."""

import contextlib
import copy
import subprocess
import sys

import pytest
import torch

import train
import trainer as training_run
from system.errors import UserError
from tests.conftest import ROOT
from tests.short_runs import arguments, assert_same_end, options
from tests.stand_in_capture import stand_in
from training.cuda_graph import WARM_UP, RecordedStep, refuse_unless_recordable

RATE = 2.0**-13  # exact in float32, in which a recorded step has its learning rate
RATES = ("--lr", RATE, RATE, 31, RATE, RATE, 31)


@pytest.fixture
def capture(monkeypatch):
    """Stand-ins on a CPU: what is computed while recording is undone; a replay computes it on the recorded memory."""
    recorders = []

    def replay(graph):
        recorder = next(each for each in recorders if each.graph is graph)
        overwrite(recorder.result, recorder.step(recorder.given))

    @contextlib.contextmanager
    def recording(graph, capture_error_mode):
        assert capture_error_mode == "thread_local"
        kept = run.keep()
        yield
        run.put_back(*kept)

    @contextlib.contextmanager
    def stream(_):
        counts["warm"] += 1
        yield

    class Recorder(RecordedStep):
        def __init__(self, *args):
            super().__init__(*args)
            recorders.append(self)

    class run:
        """The Trainer at hand: its weights, moments and random numbers."""

        trainer = None

        @classmethod
        def keep(cls):
            optimisers = cls.trainer.optimisation.optimisers.values()
            states = [copy.deepcopy(each.state_dict()["state"]) for each in optimisers]
            return copy.deepcopy(cls.trainer.network.state_dict()), states, torch.get_rng_state()

        @classmethod
        def put_back(cls, weights, states, random):
            with torch.no_grad():
                cls.trainer.network.load_state_dict(weights)
                for optimiser, state in zip(cls.trainer.optimisation.optimisers.values(), states, strict=True):
                    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
            torch.set_rng_state(random)

    monkeypatch.setattr(training_run, "refuse_unless_recordable", lambda *_: None)
    monkeypatch.setattr(training_run, "RecordedStep", Recorder)
    made = training_run.Trainer.__init__

    def remembered(self, opt):
        made(self, opt)
        run.trainer = self

    monkeypatch.setattr(training_run.Trainer, "__init__", remembered)
    counts = stand_in(monkeypatch, replay, recording, stream)
    counts["warm"] = 0
    return counts


def overwrite(old, new):
    """Write a nest of tensors into the memory of another one."""
    if isinstance(old, torch.Tensor):
        old.detach().copy_(new.detach())
        return
    keys = old if isinstance(old, dict) else range(len(old))
    for key in keys:
        if isinstance(old[key], dict | list | tuple | torch.Tensor):
            overwrite(old[key], new[key])


def test_a_recorded_run_ends_as_one_that_is_not_and_resumes_exactly(synthetic_drive, tmp_path, capture):
    words = [*RATES, "--num_epochs", 2, "--val_steps", 2]
    assert train.main(arguments(synthetic_drive, tmp_path / "eager", *words)) == 0
    assert capture == {"recorded": 0, "replayed": 0, "warm": 0}
    whole = arguments(synthetic_drive, tmp_path / "recorded", *words, "--cuda_graph")
    assert train.main(whole) == 0
    assert capture == {"recorded": 1, "replayed": 3, "warm": WARM_UP}
    assert_same_end(tmp_path / "eager" / "run", tmp_path / "recorded" / "run")

    parts = arguments(synthetic_drive, tmp_path / "parts", *words, "--cuda_graph")
    assert train.main([*parts, "--max_steps", "1"]) == 0
    assert train.main([*parts, "--resume"]) == 0
    assert capture["recorded"] == 2 and capture["replayed"] == 5
    assert_same_end(tmp_path / "eager" / "run", tmp_path / "parts" / "run")


def test_batches_of_another_size_are_not_recorded(capture):
    seen = []
    recorded = RecordedStep(lambda batches: seen.append(len(batches[0]["color", 0, 0])) or {"loss": torch.ones(())},
                            3, torch.device("cpu"))  # fmt: skip
    for count in (2, 3, 3, 2, 3):
        recorded([{("color", 0, 0): torch.zeros(count, 3, 4, 4)}])
    assert seen == [2, 3, 3, 2, 3] and capture == {"recorded": 0, "replayed": 0, "warm": WARM_UP}


def test_a_replay_sees_the_new_batch_in_the_recorded_memory(capture, monkeypatch):
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: contextlib.nullcontext())
    recorded = RecordedStep(lambda batches: batches[0]["color", 0, 0] + 1, 2, torch.device("cpu"))
    graph = type("Graph", (), {"replay": lambda self: recorded.result.copy_(recorded.step(recorded.given))})
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    batches = [{("color", 0, 0): torch.full((2, 1), float(step)), "name": "x"} for step in range(WARM_UP + 2)]
    results = [recorded([batch]) for batch in batches]
    assert results[-2] is results[-1] and results[-1].tolist() == [[WARM_UP + 2.0]] * 2


def test_files_of_a_recorded_run_hold_plain_numbers(capture):
    words = ("--weights_init", "scratch", "--model", "lite-mono-tiny", "--height", 32, "--width", 64, "--no_cuda")
    plain, recorded = (training_run.Trainer(options(*words, *more)) for more in ((), ("--cuda_graph",)))
    for each in (plain, recorded):
        each.optimisation.set_epoch(0)
    groups = [each.optimisation.moments()["adam"]["param_groups"] for each in (plain, recorded)]
    assert groups[0][0].keys() == groups[1][0].keys()
    assert type(groups[1][0]["lr"]) is float and groups[1][0]["lr"] == pytest.approx(groups[0][0]["lr"], rel=1e-6)
    assert groups[0][0]["capturable"] is groups[1][0]["capturable"] is False
    assert plain.optimisation.rates() == recorded.optimisation.rates()


@pytest.mark.parametrize(
    "flags, device, count, what",
    [((), "cpu", 1, "on cpu"), (("--amp", "fp16"), "cuda", 1, "fp16"), ((), "cuda", 2, "with 2")],
)
def test_what_cannot_be_recorded_is_refused(flags, device, count, what):
    opt = options(*flags, "--cuda_graph")
    with pytest.raises(UserError, match=what):
        refuse_unless_recordable(opt, torch.device(device), training_run.process_group.Processes(count=count))
    refuse_unless_recordable(options("--cuda_graph"), torch.device("cuda"), training_run.process_group.Processes())


def test_on_a_cpu_the_option_is_the_one_line(synthetic_drive, tmp_path):
    argv = arguments(synthetic_drive, tmp_path, "--cuda_graph")
    ended = subprocess.run([sys.executable, "train.py", *argv], cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = ended.stderr.splitlines()
    assert ended.returncode == 2 and len(lines) == 1, lines
    assert lines[0].startswith("error: only the work of a GPU can be recorded; --cuda_graph on cpu; "), lines
    assert not (tmp_path / "run").exists()
