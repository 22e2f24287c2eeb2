"""ImageNet pre-training: states with a right checksum and wrong content, and numbers that are not finite in them."""

import copy
import json
import math
import os

import pytest
import torch

from system.errors import UserError
from tests.pretraining import SMALL, batch, fails, frozen_learner, main
from training.run import states

FLAGS = ("--epochs", "2", "--update_freq", "1", "--model_ema", "--save_steps", "2", "--save_ckpt_num", "9",
         "--disable_eval")  # fmt: skip


@pytest.fixture(scope="module")
def stored(three_classes, tmp_path_factory):
    """The state in the middle of a run of six steps, read."""
    out = tmp_path_factory.mktemp("stored") / "run"
    assert main([*SMALL, *FLAGS, "--data_path", three_classes, "--output_dir", str(out)]) == 0
    return states.read(out / "states" / "state_00000002.pt")


def first_moment(state):
    return next(iter(state["optimiser"]["state"].values()))


WRONG = {
    "no names": lambda state: [1, 2],
    "no history": lambda state: state.pop("history"),
    "a history of something else": lambda state: state.update(history=[{"epoch": "x"}]),
    "a step that is no number": lambda state: state.update(step="2"),
    "steps that do not fit": lambda state: state.update(step=5),
    "progress of three": lambda state: state.update(progress=[0, 2, 2]),
    "progress beyond the epoch": lambda state: state.update(progress=[0, 999], step=999),
    "a future epoch": lambda state: state.update(progress=[99, 0], step=297),
    "best of something else": lambda state: state.update(best={"top5": 1.0}),
    "best that is no number": lambda state: state.update(best={"top1": math.nan, "ema_top1": -1.0}),
    "no random states": lambda state: state.update(random=[]),
    "random states of another kind": lambda state: state["random"][0].update(torch=torch.zeros(3)),
    "no weights": lambda state: state.update(model=5),
    "weights of another shape": lambda state: state["model"].update({"head.weight": torch.zeros(2, 2)}),
    "no moving average": lambda state: state.pop("model_ema"),
    "no optimiser": lambda state: state.update(optimiser=None),
    "moments of another shape": lambda state: first_moment(state).update(exp_avg=torch.zeros(2)),
    "no groups": lambda state: state["optimiser"].update(param_groups=5),
    "overflows below 0": lambda state: state.update(overflows=-1),
}


def resumed(state, three_classes, tmp_path, capsys):
    """Go on from `state` in a new folder; return the line of error and that folder."""
    path, out = tmp_path / "state_00000002.pt", tmp_path / "run"
    states.write(path, state)
    flags = [*SMALL, *FLAGS, "--data_path", three_classes, "--output_dir", str(out), "--resume", str(path)]
    return fails(flags, capsys), out


@pytest.mark.parametrize("damage", WRONG.values(), ids=WRONG)
def test_a_state_of_wrong_content_is_one_line(stored, three_classes, tmp_path, capsys, damage):
    state = copy.deepcopy(stored)
    replaced = damage(state)
    line, _ = resumed(replaced if isinstance(replaced, list) else state, three_classes, tmp_path, capsys)
    assert "state_00000002.pt" in line


@pytest.mark.parametrize("place", ["model", "model_ema", "moments"])
def test_a_state_that_is_not_finite_is_reported(stored, three_classes, tmp_path, capsys, place):
    state = copy.deepcopy(stored)
    value = first_moment(state)["exp_avg"] if place == "moments" else state[place]["head.weight"]
    value.view(-1)[0] = math.nan
    line, out = resumed(state, three_classes, tmp_path, capsys)
    report = json.loads((out / "not_finite.json").read_text())
    assert "not finite" in line and f"see {out / 'not_finite.json'}" in line
    assert report["file"].endswith("state_00000002.pt") and report["entry"] in line


def test_weights_to_start_from_that_are_not_finite_are_reported(stored, three_classes, tmp_path, capsys):
    weights = copy.deepcopy(stored["model"])
    weights["norm.weight"][0] = math.inf
    torch.save({"model": weights}, tmp_path / "start.pth")
    flags = [*SMALL, *FLAGS, "--data_path", three_classes, "--output_dir", str(tmp_path / "run")]
    line = fails([*flags, "--finetune", str(tmp_path / "start.pth")], capsys)
    assert "not finite" in line and os.listdir(tmp_path / "run") == ["not_finite.json"]
    assert json.loads((tmp_path / "run" / "not_finite.json").read_text())["entry"] == "norm.weight"


@pytest.mark.parametrize(
    "name", ["sgd", "adamw", "lamb", "adafactor", "lion", "rmsproptf", "nadamw", "adan", "novograd"]
)
def test_every_optimisers_own_state_is_taken_and_a_foreign_one_is_not(name):
    learner, other = frozen_learner("--opt", name), frozen_learner("--opt", name)
    for step in (1, 2):
        learner.step = step
        learner.learn([batch()])
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    learner.learn([batch(seed=1)])
    other.learn([batch(seed=1)])
    for mine, theirs in zip(learner.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    state = copy.deepcopy(learner.state_dict())
    entries = next(each for each in state["optimiser"]["state"].values() if each)
    key = next(key for key, value in entries.items() if isinstance(value, torch.Tensor) and value.numel() > 1)
    entries[key] = torch.zeros(3, 5, 7)
    with pytest.raises(UserError, match="state"):
        frozen_learner("--opt", name).load_state_dict(state)


def test_a_rate_below_zero_is_one_mistake(capsys):
    assert "--lr is out of range" in fails([*SMALL, "--data_path", "x", "--lr", "-1"], capsys)
