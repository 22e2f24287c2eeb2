"""Numbers that are not finite end a run with its one line, wherever they are noticed, and before they do harm."""

import copy
import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch

import layers
from cpu import SWITCH
from system.errors import UserError
from tests.conftest import ROOT
from tests.short_runs import arguments, differences
from training.optimisation import Optimisation
from training.run import states


def run_here(argv, capsys):
    """Run train.py's main (as a process: tests/test_ending.py); return (exit code, lines on stderr)."""
    import train

    capsys.readouterr()
    return train.main(argv), capsys.readouterr().err.splitlines()


def assert_not_finite(ended, run, what, step):
    code, lines = ended
    assert code == 2 and len(lines) == 1, lines
    assert lines[0].startswith(f"error: the {what}") and f"not finite; step {step}: " in lines[0], lines
    report = json.loads((run / "not_finite.json").read_text())
    assert report["step"] == step and report["what"] == what


@pytest.mark.parametrize("plain", ["", "1"])
def test_a_depth_range_that_overflows_is_the_one_line(synthetic_drive, tmp_path, capsys, monkeypatch, plain):
    monkeypatch.setenv(SWITCH, plain)
    ended = run_here(arguments(synthetic_drive, tmp_path, "--min_depth", 1e-320), capsys)
    assert_not_finite(ended, tmp_path / "run", "disparity or motion", 0)


def test_weights_that_explode_are_noticed_by_validation(synthetic_drive, tmp_path, capsys):
    ended = run_here(arguments(synthetic_drive, tmp_path, "--weight_decay", 1e300, "--max_steps", 1), capsys)
    assert_not_finite(ended, tmp_path / "run", "disparity or motion", 1)


@pytest.fixture(scope="module")
def trained(synthetic_drive, tmp_path_factory):
    import train

    folder = tmp_path_factory.mktemp("trained")
    assert train.main(arguments(synthetic_drive, folder, "--max_steps", 1)) == 0
    return folder / "run" / "models" / "weights_0"


@pytest.mark.parametrize("name", ["encoder", "depth", "pose"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_given_weights_that_are_no_numbers_are_the_one_line(trained, synthetic_drive, tmp_path, capsys, name, value):
    folder = tmp_path / "weights"
    shutil.copytree(trained, folder)
    state = torch.load(folder / f"{name}.pth", weights_only=True)
    next(each for each in state.values() if isinstance(each, torch.Tensor) and each.dim() == 4)[:] = value
    torch.save(state, folder / f"{name}.pth")
    code, lines = run_here(arguments(synthetic_drive, tmp_path, "--load_weights_folder", folder, "--max_steps", 1),
                           capsys)  # fmt: skip
    assert code == 2 and len(lines) == 1, lines
    assert lines[0].startswith(f"error: the weights are not finite; {folder / name}.pth: "), lines
    assert_reported(lines[0], tmp_path / "run", f"{folder / name}.pth", state_entry(folder / f"{name}.pth"))


def state_entry(path):
    state = torch.load(path, weights_only=True)
    return next(key for key, each in state.items() if isinstance(each, torch.Tensor) and not each.isfinite().all())


def assert_reported(line, run, file, entry):
    """Assert that not_finite.json, and nothing else, says where the numbers were found, and that the line names it."""
    assert f"see {run / 'not_finite.json'}; " in line
    report = json.loads((run / "not_finite.json").read_text())
    assert report["file"] == str(file) and report["entry"] == entry and "not finite" in report["what"]


def refused(argv, capsys):
    code, lines = run_here(argv, capsys)
    assert code == 2 and len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("name", ["adam", "adam_pose"])
def test_given_moments_that_are_no_numbers_are_the_one_line(trained, short_run, tmp_path, capsys, name):
    folder, run = tmp_path / "weights", tmp_path / "runs" / "run"
    shutil.copytree(trained, folder)
    state = torch.load(folder / f"{name}.pth", weights_only=True)
    state["state"][3]["exp_avg_sq"].view(-1)[0] = math.inf
    torch.save(state, folder / f"{name}.pth")
    line = refused(short_run("--load_weights_folder", folder), capsys)
    assert_reported(line, run, folder / f"{name}.pth", "exp_avg_sq of parameter 3")
    assert os.listdir(run) == ["not_finite.json"]

    import train

    argv = short_run("--load_weights_folder", trained, "--max_steps", 1)
    assert train.main(argv) == 0  # the report is in nobody's way
    assert not (run / "not_finite.json").exists() and not (tmp_path / "runs" / "run.1").exists()


def test_a_state_that_is_not_finite_is_the_one_line(short_run, tmp_path, capsys):
    import train

    argv, run = short_run("--max_steps", 1), tmp_path / "runs" / "run"
    assert train.main(argv) == 0
    (path,) = (run / "states").iterdir()
    state = states.read(path)
    state["networks"]["depth.decoder.0.conv.conv.weight"][0, 0, 0, 0] = math.nan
    states.write(path, state)
    line = refused([*argv, "--resume"], capsys)
    assert_reported(line, run, path, "depth.decoder.0.conv.conv.weight")


def test_nothing_is_written_into_a_run_that_another_process_trains(trained, short_run, tmp_path, capsys):
    folder, run = tmp_path / "weights", tmp_path / "runs" / "run"
    shutil.copytree(trained, folder)
    state = torch.load(folder / "depth.pth", weights_only=True)
    state["decoder.0.conv.conv.weight"][:] = math.nan
    torch.save(state, folder / "depth.pth")
    (tmp_path / "runs").mkdir()
    code = f"from system.locks import Lock; Lock({str(run) + '.lock'!r}).acquire(); print(1, flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    line = refused(short_run("--load_weights_folder", folder), capsys)
    holder.communicate(b"\n")
    assert "not finite" in line and "not_finite.json" not in line and not run.exists()


def test_a_negative_variance_is_refused(trained, short_run, tmp_path, capsys):
    folder = tmp_path / "weights"
    shutil.copytree(trained, folder)
    state = torch.load(folder / "encoder.pth", weights_only=True)
    key = next(key for key in state if key.endswith("running_var"))
    state[key][1] = -1
    torch.save(state, folder / "encoder.pth")
    assert "negative variance" in refused(short_run("--load_weights_folder", folder), capsys)


def test_warping_by_a_grid_that_is_no_number_is_an_error_on_a_cpu():
    grid = torch.zeros(1, 4, 4, 2)
    layers.warp(torch.rand(1, 3, 4, 4), grid)
    grid[0, 1, 1, 0] = math.nan
    with pytest.raises(FloatingPointError):
        layers.warp(torch.rand(1, 3, 4, 4), grid)


def optimisation(scaler=None):
    torch.manual_seed(0)
    models = {"encoder": torch.nn.Linear(3, 2), "pose": torch.nn.Linear(2, 2)}
    return models, Optimisation(models, 1e-2, (1e-3, 1e-5, 31, 1e-3, 1e-5, 31),
                                scaler or torch.amp.GradScaler("cpu", enabled=False))  # fmt: skip


def take_step(models, optimisation, numbers=(), factor=1.0):
    optimisation.set_epoch(0)
    optimisation.zero_grad()
    loss = models["pose"](models["encoder"](torch.ones(4, 3))).square().mean() * factor
    optimisation.backward(loss)
    return optimisation.step(numbers)


@pytest.mark.parametrize("numbers, factor", [((math.nan,), 1), ((0.5, math.inf), 1), ((), math.nan), ((), math.inf)])
def test_a_step_with_a_number_that_is_not_finite_touches_neither_weights_nor_moments(numbers, factor):
    models, optimised = optimisation()
    take_step(models, optimised, (torch.tensor(0.5),))
    weights = copy.deepcopy([model.state_dict() for model in models.values()])
    moments = copy.deepcopy(optimised.state_dict())
    norm = take_step(models, optimised, [torch.tensor(each) for each in numbers], factor)
    assert not differences(weights, [model.state_dict() for model in models.values()])
    assert not differences(moments["optimisers"], optimised.state_dict()["optimisers"])
    assert optimised.has_failed(norm.item()) == (factor != 1)
    take_step(models, optimised)
    assert differences(weights, [model.state_dict() for model in models.values()])


BROKEN_MOMENTS = {
    "another shape": lambda entry: entry.update(exp_avg=torch.zeros(2)),
    "no step": lambda entry: entry.pop("step"),
    "whole numbers": lambda entry: entry.update(exp_avg_sq=torch.zeros_like(entry["exp_avg_sq"], dtype=torch.long)),
    "no tensor": lambda entry: entry.update(exp_avg=None),
}


@pytest.mark.parametrize("damage", BROKEN_MOMENTS.values(), ids=BROKEN_MOMENTS)
def test_moments_that_do_not_fit_are_refused(damage):
    models, optimised = optimisation()
    take_step(models, optimised)
    state = copy.deepcopy(optimised.state_dict())
    damage(state["optimisers"]["adam"]["state"][0])
    with pytest.raises(UserError, match="do not fit"):
        optimisation()[1].load_state_dict(state)


@pytest.mark.parametrize("entries", [5, {0: None}, {0: 5}, None])
def test_moments_of_another_kind_are_refused(entries):
    models, optimised = optimisation()
    state = optimised.state_dict()
    state["optimisers"]["adam"]["state"] = entries
    with pytest.raises(UserError, match="do not fit"):
        optimised.load_state_dict(state)


def test_moments_take_the_kernel_of_this_run_and_the_layout_of_their_parameter():
    """A file of AdamW that is not fused would leave its steps on the CPU; one from a CPU has contiguous moments."""
    models = {"encoder": torch.nn.Conv2d(3, 4, 3)}
    rates = (1e-3, 1e-5, 31, 1e-3, 1e-5, 31)
    optimised = Optimisation(models, 1e-2, rates, torch.amp.GradScaler("cpu", enabled=False))
    models["encoder"](torch.ones(1, 3, 5, 5)).sum().backward()
    optimised.step()
    state = copy.deepcopy(optimised.state_dict())
    group = state["optimisers"]["adam"]["param_groups"][0]
    group.update(fused=False, foreach=True, lr=7.0)
    twin = {"encoder": torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)}
    loaded = Optimisation(twin, 1e-2, rates, torch.amp.GradScaler("cpu", enabled=False))
    loaded.load_state_dict(state)
    optimiser = loaded.optimisers["adam"]
    assert optimiser.param_groups[0]["fused"] and optimiser.param_groups[0]["lr"] != 7.0
    moments = optimiser.state[twin["encoder"].weight]
    assert moments["exp_avg"].stride() == twin["encoder"].weight.stride()
    assert torch.equal(moments["exp_avg"], state["optimisers"]["adam"]["state"][0]["exp_avg"])
