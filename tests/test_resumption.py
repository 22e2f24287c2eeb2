"""States with a right checksum and wrong content, and moments that do not fit: one line each, before they are used."""

import copy
import shutil

import pytest
import torch

import train
from system.errors import UserError
from tests.short_runs import arguments, files_below, newest_state, one_line
from training.moments import Misfit, load_moments
from training.optimisation import Optimisation
from training.run import states
from training.state_content import check_progress

FLAGS = ("--num_epochs", 2)


@pytest.fixture(scope="module")
def finished(synthetic_drive, tmp_path_factory):
    """A run of two epochs of three steps each."""
    folder = tmp_path_factory.mktemp("finished")
    assert train.main(arguments(synthetic_drive, folder, *FLAGS)) == 0
    return folder / "run"


def put(place, value):
    """Return a function that sets state[place[0]][place[1]]... to `value`."""

    def change(state):
        for key in place[:-1]:
            state = state[key]
        state[place[-1]] = value

    return change


def drop(*place):
    def change(state):
        for key in place[:-1]:
            state = state[key]
        del state[place[-1]]

    return change


ADAM = ("optimisation", "optimisers", "adam")
KEY = "encoder.stem2.0.conv.weight"
WRONG = {
    **{f"no {name}": drop(name) for name in ("identity", "progress", "best", "networks", "optimisation", "bad_samples",
                                             "random")},
    **{f"{name} is 5": put((name,), 5) for name in ("identity", "progress", "best", "networks", "optimisation",
                                                    "random")},
    "a step beyond the epoch": put(("progress",), [0, 4999, 5]),
    "a future epoch": put(("progress",), [7, 0, 0]),
    "a future epoch with its step": put(("progress",), [7, 0, 21]),
    "a negative step": put(("progress",), [0, -1, -1]),
    "half a step": put(("progress",), [0, 1.5, 1.5]),
    "two numbers": put(("progress",), [0, 1]),
    "names for numbers": put(("progress",), ["0", "1", "1"]),
    "negative bad samples": put(("bad_samples",), -1),
    "a word for the best": put(("best",), {"metric": "loss", "value": "x", "epoch": 0}),
    "half a best": put(("best",), {"metric": "loss"}),
    "a NaN best": put(("best",), {"metric": "loss", "value": float("nan"), "epoch": 0}),
    "a missing network": lambda state: [state["networks"].pop(key) for key in list(state["networks"]) if "pose" in key],
    "a weight of another shape": put(("networks", KEY), torch.zeros(3)),
    "a NaN weight": lambda state: state["networks"][KEY].view(-1)[3].fill_(float("nan")),
    "a number for a weight": put(("networks", KEY), 3),
    "no optimiser": drop(*ADAM),
    "no groups": drop(*ADAM, "param_groups"),
    "no moments": put((*ADAM, "state"), 5),
    "moments of None": put((*ADAM, "state"), {0: None}),
    "moments of another shape": put((*ADAM, "state", 0, "exp_avg"), torch.zeros(2)),
    "moments without step": drop(*ADAM, "state", 0, "step"),
    "a moment not finite": lambda s: s["optimisation"]["optimisers"]["adam"]["state"][0]["exp_avg"].fill_(float("inf")),
    "words for overflows": put(("optimisation", "overflows"), "many"),
    "no random state of this rank": put(("random",), []),
    "a short Python state": put(("random", 0, "python"), [3, [1, 2], None]),
    "a number for NumPy": put(("random", 0, "numpy"), 5),
    "NumPy beyond its words": lambda state: state["random"][0]["numpy"].__setitem__(2, 10**6),
    "a short torch state": put(("random", 0, "torch"), torch.zeros(3, dtype=torch.uint8)),
    "no torch state": drop("random", 0, "torch"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_state_with_wrong_content_is_one_line(finished, short_run, tmp_path, capsys, change):
    state = copy.deepcopy(newest_state(finished))
    change(state)
    path = tmp_path / "wrong.pt"
    states.write(str(path), state)
    assert train.main(short_run(*FLAGS, "--num_epochs", 3, "--resume", path)) == 2
    line = one_line(capsys)
    assert str(path) in line
    written = [name for name in files_below(tmp_path / "runs") if not name.endswith(".lock")]
    assert written == (["run/not_finite.json"] if "not_finite.json" in line else [])


def test_a_state_that_is_no_dictionary_is_one_line(short_run, tmp_path, capsys):
    states.write(str(tmp_path / "wrong.pt"), [1, 2])
    assert train.main(short_run("--resume", tmp_path / "wrong.pt")) == 2
    assert "no named entries" in one_line(capsys)


def test_a_run_that_had_more_epochs_says_how_many(finished, short_run, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "runs" / "run")
    assert train.main(short_run("--num_epochs", 1, "--resume")) == 2
    assert "epoch 2 of 1; pass --num_epochs 2 or more" in one_line(capsys)


@pytest.mark.parametrize("progress", [[0, 0, 0], [1, 2, 5], [2, 0, 6], (1, 0, 3)])
def test_right_progress_passes(progress):
    check_progress(progress, 3, 2, "state.pt")


# --- moments ----------------------------------------------------------------------------------------------------------


def stepped(seed=0):
    """Return a small network and its AdamW after two steps."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Conv2d(3, 1, 1))
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    for _ in range(2):
        network(torch.rand(1, 2, 5, 5)).sum().backward()
        optimiser.step()
    return network, optimiser


def fresh(**settings):
    return torch.optim.AdamW(stepped(1)[0].parameters(), lr=0.5, weight_decay=0.3, **settings)


@pytest.mark.parametrize("fused", [False, True])
def test_moments_are_taken_over_and_the_settings_stay(fused):
    stored, optimiser = stepped()[1].state_dict(), fresh(fused=fused)
    load_moments(optimiser, copy.deepcopy(stored), "adam.pth")
    group = optimiser.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.5, 0.3, fused)
    for number, parameter in enumerate(group["params"]):
        entries = optimiser.state[parameter]
        assert all(torch.equal(entries[key], stored["state"][number][key]) for key in ("step", "exp_avg", "exp_avg_sq"))
        assert entries["step"].device == parameter.device
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    assert optimiser.state[parameter]["step"] == 3


def test_step_goes_to_the_device_of_a_fused_kernel():
    # Counted on the meta device, which stands for a GPU.
    with torch.device("meta"):
        network = torch.nn.Conv2d(2, 3, 3)
    stored = torch.optim.AdamW(torch.nn.Conv2d(2, 3, 3).parameters()).state_dict()
    moments = {"step": torch.tensor(2.0), "exp_avg": torch.zeros(3, 2, 3, 3), "exp_avg_sq": torch.zeros(3, 2, 3, 3)}
    stored["state"] = {0: moments}
    optimiser = torch.optim.AdamW(network.parameters())
    optimiser.param_groups[0]["fused"] = True  # the constructor asks for a device that exists
    load_moments(optimiser, stored, "adam.pth")
    assert optimiser.state[network.weight]["step"].device.type == "meta"


MISFITS = {
    "shape": lambda stored: stored["state"][0].update(exp_avg=torch.zeros(2)),
    "no step": lambda stored: stored["state"][0].pop("step"),
    "state 5": lambda stored: stored.update(state=5),
    "entry None": lambda stored: stored.update(state={0: None}),
    "key None": lambda stored: stored.update(state={None: {}}),
    "no groups": lambda stored: stored.pop("param_groups"),
    "groups 5": lambda stored: stored.update(param_groups=[5]),
    "names": lambda stored: stored["param_groups"][0].update(params=["a", "b", "c", "d"]),
    "one name": lambda stored: stored["param_groups"][0].update(params=[0, 0, 0, 0]),
    "another count": lambda stored: stored["param_groups"][0].update(params=[0, 1, 2]),
    "another optimiser": lambda stored: stored["state"].update({0: {"momentum_buffer": torch.zeros(3, 2, 3, 3)}}),
    "sparse": lambda stored: stored["state"][0].update(exp_avg=stored["state"][0]["exp_avg"].to_sparse()),
    "complex": lambda stored: stored["state"][0].update(exp_avg=stored["state"][0]["exp_avg"].to(torch.complex64)),
    "long step": lambda stored: stored["state"][0].update(step=torch.zeros(5)),
    "a word": lambda stored: stored["state"][0].update(step="x"),
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS)
def test_moments_that_do_not_fit_are_refused_and_nothing_changes(change):
    stored, optimiser = copy.deepcopy(stepped()[1].state_dict()), fresh(fused=True)
    change(stored)
    with pytest.raises(Misfit):
        load_moments(optimiser, stored, "adam.pth")
    assert not optimiser.state


NOT_FINITE, NEGATIVE = "moments are not finite", "moments are negative where they cannot be"


@pytest.mark.parametrize("key, value, words", [
    ("exp_avg", float("nan"), NOT_FINITE), ("exp_avg_sq", float("inf"), NOT_FINITE), ("step", float("nan"), NOT_FINITE),
    ("exp_avg_sq", -1.0, NEGATIVE), ("step", -5.0, NEGATIVE),
])  # fmt: skip
def test_moments_that_cannot_be_are_an_error(key, value, words):
    stored, optimiser = copy.deepcopy(stepped()[1].state_dict()), fresh(fused=True)
    stored["state"][1][key].fill_(value)
    with pytest.raises(UserError, match=f"{words}.*adam.pth: {key} of parameter 1"):
        load_moments(optimiser, stored, "adam.pth")
    assert not optimiser.state


def test_a_run_says_that_moments_of_another_layout_are_left_out(finished, short_run, tmp_path, caplog):
    folder = tmp_path / "weights"
    shutil.copytree(finished / "models" / "weights_1", folder)
    stored = torch.load(folder / "adam.pth", weights_only=True)
    stored["param_groups"][0]["params"] += [10**6]  # the published code's file names more parameters
    torch.save(stored, folder / "adam.pth")
    assert train.main(short_run("--load_weights_folder", folder, "--max_steps", 1)) == 0
    assert "adam.pth does not fit" in caplog.text and "leave out optimiser files" in caplog.text
    stored = torch.load(folder / "adam_pose.pth", weights_only=True)
    stored["state"][0]["exp_avg"].fill_(float("nan"))
    torch.save(stored, folder / "adam_pose.pth")
    assert train.main(short_run("--load_weights_folder", folder, "--max_steps", 1)) == 2


def test_a_damaged_state_of_the_scaler_is_refused():
    network = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2)})
    make = lambda: Optimisation(dict(network.items()), 0.01, [1e-4] * 6, torch.amp.GradScaler("cpu"))  # noqa: E731
    good = make().state_dict()
    make().load_state_dict(good)
    for scaler in ({}, 5, good["scaler"] | {"scale": float("nan")}, good["scaler"] | {"growth_interval": "x"}):
        with pytest.raises(UserError, match="do not fit this run"):
            make().load_state_dict(good | {"scaler": scaler})
