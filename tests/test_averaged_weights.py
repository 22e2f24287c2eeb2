"""Averaged weights: the recursion by hand, folders beside the others, exact resume, the same on every process."""

import json

import pytest
import torch
from torch import nn

import train
import trainer
from checkpointing.folders import load_depth_network
from tests.ranks import start
from tests.short_runs import arguments, assert_same_end, differences, newest_state
from training.averaged_weights import AveragedWeights

LONG = ("--num_epochs", 2, "--drop_path", 0.3, "--lr", 1e-3, 1e-5, 3, 1e-3, 1e-5, 3)


class Holder(nn.Module):
    """What holds networks, as the trainer's does."""

    def __init__(self):
        super().__init__()
        self.networks = nn.ModuleDict({"encoder": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))})


def test_the_average_follows_the_recursion():
    network = Holder().train()
    average = AveragedWeights(network, 0.7)
    expected = {name: value.clone().double() for name, value in network.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for value in network.state_dict().values():
                value.add_(1) if value.dtype == torch.long else value.copy_(torch.randn_like(value))
        average.update(network)
        stays = min(0.7, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            mixed = stays * expected[name] + (1 - stays) * value.double()
            expected[name] = value.double() if value.dtype == torch.long else mixed
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert not average.network.training and not any(each.requires_grad for each in average.network.parameters())


@pytest.fixture(scope="module")
def undisturbed(synthetic_drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train.main(arguments(synthetic_drive, folder, *LONG, "--ema", 0.9)) == 0
    return folder / "run"


def test_weights_of_the_average_stand_beside_the_others(undisturbed):
    names = sorted(path.name for path in (undisturbed / "models").glob("weights_*"))
    assert names == ["weights_0", "weights_1", "weights_best", "weights_ema", "weights_ema_best"]
    for name in ("weights_ema", "weights_ema_best"):
        load_depth_network(undisturbed / "models" / name, "lite-mono-tiny")
    average = torch.load(undisturbed / "models" / "weights_ema" / "depth.pth", weights_only=True)
    last = torch.load(undisturbed / "models" / "weights_1" / "depth.pth", weights_only=True)
    assert average.keys() == last.keys() and differences(average, last)
    assert json.loads((undisturbed / "models" / "weights_ema_best" / "metrics.json").read_text())["abs_rel"] > 0


def test_training_is_the_same_as_without(undisturbed, short_run, tmp_path):
    assert train.main(short_run(*LONG)) == 0
    mine, plain = newest_state(undisturbed), newest_state(tmp_path / "runs" / "run")
    assert not differences({key: mine[key] for key in ("networks", "optimisation", "best")},
                           {key: plain[key] for key in ("networks", "optimisation", "best")})  # fmt: skip
    assert mine.keys() - plain.keys() == {"average"}


def test_resumed_it_is_the_same_average(undisturbed, short_run, tmp_path, monkeypatch):
    whole = trainer.Trainer._optimise

    def optimise(self, batches):
        if self.step == 4:
            raise KeyboardInterrupt
        return whole(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_optimise", optimise)
        assert train.main(short_run(*LONG, "--ema", 0.9, "--save_steps", 1)) != 0
    assert train.main(short_run(*LONG, "--ema", 0.9, "--save_steps", 1, "--resume")) == 0
    assert_same_end(undisturbed, tmp_path / "runs" / "run")


def test_an_average_needs_one_in_the_state(undisturbed, short_run, tmp_path, capsys):
    assert train.main(short_run("--max_steps", 1)) == 0
    assert train.main(short_run("--ema", 0.9, "--resume")) == 2
    assert "cannot go on with another ema" in capsys.readouterr().err


def test_two_processes_keep_one_average(synthetic_drive, tmp_path):
    words = arguments(synthetic_drive, tmp_path, "--batch_size", 3, "--ema", 0.9)
    assert [code for code, *_ in start(2, "tests/two_processes.py", *words)] == [0, 0]
    state = newest_state(tmp_path / "run")
    average = torch.load(tmp_path / "run" / "models" / "weights_ema" / "depth.pth", weights_only=True)
    for name, value in average.items():
        assert torch.equal(state["average"]["networks"][f"depth.{name}"], value)
