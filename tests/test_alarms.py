"""Alarms fire on made-up bad runs and stay silent on a healthy short one; what is not finite stops before the step."""

import json
import logging

import numpy as np
import pytest
import torch

import train
import trainer
from datasets import KITTIRAWDataset
from datasets.labels import relative_stem
from tests.short_runs import arguments, files_below, newest_state, one_line, options
from training import alarms, reporting
from training.alarms import SETTLE_STEPS, Alarms, startup_notices
from training.best import is_better
from training.schedule import late_restart

HEALTHY = {"spread": 0.4, "motion": 0.02, "masked": 0.3}


class Heard:
    """Collects what alarms write."""

    def __init__(self):
        self.alarms = []

    def __call__(self, name, message, step):
        assert message and "\n" not in message
        self.alarms.append((name, step))


@pytest.mark.parametrize("name, value", [
    ("spread", 1e-5), ("spread", 0.0), ("motion", 1e-9), ("motion", 50.0), ("masked", 0.999), ("masked", 1.0),
    ("spread", float("nan")), ("motion", float("nan")), ("motion", float("inf")),
])  # fmt: skip
def test_a_bad_number_fires_once_until_it_was_good_again(name, value):
    heard = Heard()
    judge = Alarms(heard)
    step = SETTLE_STEPS
    judge.check(step, {**HEALTHY, name: value})
    judge.check(step + 50, {**HEALTHY, name: value})
    assert heard.alarms == [(name, step)]
    judge.check(step + 100, HEALTHY)
    judge.check(step + 150, {**HEALTHY, name: value})
    assert heard.alarms == [(name, step), (name, step + 150)]


def test_healthy_numbers_are_silent_and_young_runs_are_left_alone():
    heard = Heard()
    judge = Alarms(heard)
    for step in range(0, 2000, 50):
        judge.check(step, HEALTHY)
    judge.check(SETTLE_STEPS - 1, {"spread": 0.0, "motion": 0.0, "masked": 1.0})
    judge.check_loading(50, 0.2)
    assert not heard.alarms


def test_a_starving_device_is_told():
    heard = Heard()
    judge = Alarms(heard)
    for share in (0.9, 0.95, 0.1, 0.8):
        judge.check_loading(50, share)
    assert [name for name, _ in heard.alarms] == ["starving", "starving"]


@pytest.mark.parametrize("epochs, cycle, epoch", [
    (30, 31, None), (35, 36, None), (50, 31, None), (32, 31, 30), (35, 31, 30), (36, 31, 30), (31, 31, 30),
    (30, 15, 29), (30, 16, None), (10, 1, None),
])  # fmt: skip
def test_a_cycle_that_restarts_near_the_end_is_found(epochs, cycle, epoch):
    assert late_restart(epochs, cycle) == epoch


def notices(*argv):
    return [name for name, _ in startup_notices(options(*argv))]


def test_notices_at_the_start():
    assert notices("--num_epochs", 30) == ["no_pretrained_weights"]
    assert notices("--num_epochs", 30, "--mypretrain", "w") == []
    assert notices("--num_epochs", 30, "--load_weights_folder", "w") == []
    assert notices("--num_epochs", 32, "--mypretrain", "w") == ["late_restart", "late_restart"]


def test_a_healthy_short_run_is_silent_but_for_the_missing_weights(synthetic_drive, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(alarms, "SETTLE_STEPS", 0)
    monkeypatch.setattr(reporting, "WATCH_STEPS", 1)
    monkeypatch.setattr(Alarms, "check_loading", lambda *_: None)  # the machine may be busy with other things
    assert train.main(arguments(synthetic_drive, tmp_path, "--num_epochs", 2)) == 0
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1 and "no pre-trained encoder" in told[0]


@pytest.mark.parametrize("name", ["spread", "motion", "masked"])
def test_a_sick_run_is_told_in_the_log_and_in_tensorboard(synthetic_drive, tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr(alarms, "SETTLE_STEPS", 0)
    monkeypatch.setattr(reporting, "WATCH_STEPS", 1)
    begin = trainer.Trainer._begin

    def sicken(self):
        begin(self)
        with torch.no_grad():
            if name == "spread":
                for head in list(self.models["depth"].decoder)[6:]:
                    head.conv.weight.zero_()
            if name == "motion":
                self.models["pose"].pose_conv.weight.zero_()
                self.models["pose"].pose_conv.bias.zero_()
            if name == "masked":  # seen through a wild motion, every neighbour looks worse than it does as it is
                self.models["pose"].pose_conv.bias.copy_(torch.tensor([0, 0, 300.0, 0, 0, 0]))

    monkeypatch.setattr(trainer.Trainer, "_begin", sicken)
    argv = arguments(synthetic_drive, tmp_path, "--max_steps", 1, "--lr", 0, 0, 31, 0, 0, 31)
    if name == "masked":
        monkeypatch.setattr(alarms, "MASKED", 0.6)
    assert train.main(argv) == 0
    words = {"spread": "collapsed", "motion": "motion vanishes", "masked": "auto-masking takes"}
    assert words[name] in caplog.text
    event = b"".join(
        (tmp_path / "run" / "train" / path).read_bytes() for path in files_below(tmp_path / "run" / "train")
    )
    assert f"alarm/{name}".encode() in event


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("more", [(), ("--grad_accum", 2)])
def test_what_is_not_finite_stops_before_the_step(synthetic_drive, tmp_path, monkeypatch, capsys, what, more):
    whole = trainer.Trainer.process_batch

    def process(self, inputs):
        outputs, losses = whole(self, inputs)
        if self.step == 1:
            bad = losses["loss"] * float("nan")
            if what == "gradient":
                bad = losses["loss"] + torch.sqrt((losses["loss"] - losses["loss"].detach()) * 1.0)
            losses["loss"] = bad
        return outputs, losses

    monkeypatch.setattr(trainer.Trainer, "process_batch", process)
    argv = arguments(synthetic_drive, tmp_path, "--save_steps", 1, "--batch_size", 3, *more)
    assert train.main(argv) == 2
    line = one_line(capsys)
    assert f"the {what} is not finite" in line and "step 1" in line and "--resume" in line
    report = json.loads((tmp_path / "run" / "not_finite.json").read_text())
    assert report["what"] == what and report["step"] == 1 and set(report["learning_rates"]) == {"adam", "adam_pose"}
    assert all(len(batch) == 3 and all("_sync " in line for line in batch) for batch in report["samples"])
    assert report["last_good_state"].endswith("state_00000001.pt")
    state = newest_state(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in state["networks"].values())


def test_a_number_that_is_none_is_never_the_best():
    assert is_better("loss", 1.0, None) and is_better("loss", 0.5, 1.0) and not is_better("loss", 1.5, 1.0)
    assert is_better("a1", 0.9, 0.8) and not is_better("a1", 0.7, 0.8)
    assert not is_better("loss", float("nan"), None) and not is_better("abs_rel", float("nan"), 1.0)


def test_a_machine_that_others_use_is_told_once(tmp_path, caplog, monkeypatch):
    from training.run import log as run_log

    told = tmp_path / "schedstat"
    told.write_text("100 0 1")
    clock = run_log.CoreClock(told)
    told.write_text("200 300 5")
    assert clock.share_waited() == 0.75
    assert clock.share_waited() == 0.0
    assert run_log.CoreClock(tmp_path / "none").share_waited() == 0.0
    caplog.set_level("INFO")
    voice = run_log.RunLog(tmp_path / "run")
    monkeypatch.setattr(voice._cores, "share_waited", iter([0.1, 0.5, 0.6, 0.2, 0.7]).__next__)
    for _ in range(5):
        voice.line(0, 1, 2, 3, 0.1, force=True)
    voice.close()
    assert len([text for text in caplog.messages if text.startswith("this machine is overloaded: the run waited")]) == 2


@pytest.mark.parametrize("correlation, says", [(0.05, "nothing in common"), (-0.1, "nothing in common"),
                                               (-0.7, "far where the prediction is near"), (0.8, None)])  # fmt: skip
def test_labels_that_do_not_agree_are_told(correlation, says):
    message = alarms.agreement(correlation)
    assert message is None if says is None else says in message


def test_labels_of_other_images_raise_an_alarm(synthetic_drive, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(alarms, "SETTLE_STEPS", 0)
    monkeypatch.setattr(reporting, "WATCH_STEPS", 1)
    lines = (synthetic_drive / "splits" / "synthetic" / "train_files.txt").read_text().split("\n")
    data = KITTIRAWDataset(synthetic_drive, [line for line in lines if line], 32, 64, (0,), 1)
    rng = np.random.default_rng(0)
    for index in range(len(data)):
        path = tmp_path / "labels" / f"{relative_stem(data, *data.frame_of(index, 0))}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.uniform(1, 50, (32, 64)).astype(np.float32))
    words = arguments(synthetic_drive, tmp_path / "runs", "--max_steps", 1, "--pseudo_depth", tmp_path / "labels")
    assert train.main(words) == 0
    assert "the pseudo-labels have nothing in common" in caplog.text
