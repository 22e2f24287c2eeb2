"""train.py is told its model and dilations by the weights or the state that it starts from."""

import json
import logging
import subprocess
import sys

import pytest
import torch

import train
from tests.conftest import ROOT
from tests.short_runs import arguments, differences, one_line

DILATIONS = "2,1,3/1,2,1/3,2,1,2,1,6"
STILL = ("--lr", 0, 0, 31, 0, 0, 31)


def without_model(argv):
    """Return a command line without its --model."""
    place = argv.index("--model")
    return argv[:place] + argv[place + 2 :]


def run(argv):
    """Run train.py as a command; return it when it has ended."""
    words = [sys.executable, "train.py", *argv]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=180)


def encoder(folder):
    return torch.load(folder / "encoder.pth", weights_only=True)


@pytest.fixture(scope="module")
def first(synthetic_drive, tmp_path_factory):
    """Folder of a run of one step of lite-mono-tiny with dilations of its own."""
    folder = tmp_path_factory.mktemp("first")
    assert train.main(arguments(synthetic_drive, folder, "--max_steps", 1, "--dilations", DILATIONS)) == 0
    return folder / "run"


def test_weights_tell_model_and_dilations(first, synthetic_drive, tmp_path):
    weights = first / "models" / "weights_0"
    assert train.main(without_model(arguments(synthetic_drive, tmp_path, "--max_steps", 1, *STILL,
                                              "--load_weights_folder", weights))) == 0  # fmt: skip
    made = encoder(tmp_path / "run" / "models" / "weights_0")
    assert made["dilations"] == [[2, 1, 3], [1, 2, 1], [3, 2, 1, 2, 1, 6]]
    parameters = {name for name in made if name.endswith("weight") and made[name].dim() == 4}
    assert not differences(*({name: each[name] for name in parameters} for each in (made, encoder(weights))))
    assert json.loads((tmp_path / "run" / "models" / "opt.json").read_text())["model"] == "lite-mono-tiny"


@pytest.mark.parametrize("named", ["newest", "auto", "the file"])
def test_a_state_tells_model_and_dilations(first, synthetic_drive, named, caplog):
    caplog.set_level(logging.INFO)
    state = first / "states" / "state_00000001.pt"
    argv = without_model(arguments(synthetic_drive, first.parent, "--max_steps", 1))
    assert train.main([*argv, "--resume", str(state) if named == "the file" else named]) == 0
    assert f"resumed from {state}" in caplog.text
    assert encoder(first / "models" / "weights_0")["dilations"][0] == [2, 1, 3]


def test_another_model_than_the_weights_is_one_line(first, synthetic_drive, tmp_path):
    weights = first / "models" / "weights_0"
    ended = run(arguments(synthetic_drive, tmp_path, "--model", "lite-mono", "--load_weights_folder", weights))
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("error: the weights do not fit lite-mono; ")
    assert ended.stderr.rstrip().endswith("they are lite-mono-tiny's: pass --model lite-mono-tiny")
    assert not (tmp_path / "run" / "models").exists()


@pytest.mark.parametrize("flags, words", [
    (("--model", "lite-mono"), "another model; lite-mono, was lite-mono-tiny"),
    (("--dilations", "1,2,3/1,2,3/1,2,3,2,4,6"), "another dilations"),
])  # fmt: skip
def test_another_model_than_the_state_is_one_line(first, synthetic_drive, capsys, flags, words):
    argv = arguments(synthetic_drive, first.parent, "--max_steps", 2, "--resume", *flags)
    assert train.main(argv) == 2
    assert words in one_line(capsys)


def test_without_weights_the_model_is_the_base_model(synthetic_drive, tmp_path, capsys):
    from options import LiteMonoOptions

    argv = without_model(arguments(synthetic_drive, tmp_path))
    assert LiteMonoOptions("train.py").parse(argv).model == "lite-mono"
    weights = ["--load_weights_folder", "w", "--models_to_load", "pose"]
    assert LiteMonoOptions("train.py").parse(argv + weights).model == "lite-mono"
    assert LiteMonoOptions("train.py").parse([*argv, *weights[:2]]).model is None
    assert train.main([*argv, "--load_weights_folder", str(tmp_path / "none")]) == 2
    assert "no such weights folder" in one_line(capsys)
