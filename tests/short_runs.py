"""Short training runs: their command lines, and what they leave behind."""

import os
from pathlib import Path

import torch

from training.run import states

SIZE = ("--height", "32", "--width", "64")
LIGHT = ("--model", "lite-mono-tiny", "--pose_model_type", "posecnn", "--weights_init", "scratch")


def arguments(data, log_dir, *more):
    """Return a list for train.main: six items a step, three steps an epoch, one epoch, on the CPU; `more` overrides."""
    return [
        *("--data_path", str(data), "--split", str(Path(data) / "splits" / "synthetic")),
        *("--log_dir", str(log_dir), "--model_name", "run", "--no_cuda", "--num_workers", "0"),
        *("--batch_size", "6", "--num_epochs", "1", *SIZE, *LIGHT),
        *map(str, more),
    ]


def options(*argv):
    """Return parsed options."""
    from options import LiteMonoOptions

    return LiteMonoOptions("train.py").parse([str(each) for each in argv])


def files_below(folder):
    """Return the sorted relative paths of all files below a folder, hidden ones too."""
    folder = Path(folder)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def one_line(capsys):
    """Return the one line on stderr, asserting that it is an error's, in three parts and without a traceback."""
    text = capsys.readouterr().err
    lines = [line for line in text.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and lines[0].count("; ") >= 2, text
    return lines[0]


def newest_state(run):
    """Return the newest state of a run's folder."""
    return states.StateFolder(os.path.join(run, "states"), 1).newest()[1]


def differences(one, other, path=""):
    """Return the paths at which two nested values differ, tensors bit by bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
        return [] if same else [path]
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{path}: keys"]
        return [each for key in one for each in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{path}: length"]
        return [
            each for i, pair in enumerate(zip(one, other, strict=True)) for each in differences(*pair, f"{path}/{i}")
        ]
    return [] if one == other else [f"{path}: {one} != {other}"]


def assert_same_end(run, other):
    """Assert that two runs' newest states and weights folders agree bit by bit."""
    assert not differences(newest_state(run), newest_state(other))
    names = sorted(path.name for path in (Path(run) / "models").glob("weights_*"))
    assert names == sorted(path.name for path in (Path(other) / "models").glob("weights_*"))
    for name in names:
        for path in sorted((Path(run) / "models" / name).glob("*.pth")):
            twin = Path(other) / "models" / name / path.name
            mine, theirs = (torch.load(each, weights_only=True) for each in (path, twin))
            assert not differences(mine, theirs), path
