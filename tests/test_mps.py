"""--device mps: everything that is asked of an Apple GPU is something it has, shown on fake tensors without one."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.gpu_on_paper import missing


@pytest.mark.skipif(missing() == "there is no g++", reason="there is no g++")
def test_training_and_prediction_ask_for_no_float64_on_an_apple_gpu():
    ended = subprocess.run([sys.executable, "-m", "tests.mps_on_paper", "train", "predict"], cwd=ROOT, timeout=300,
                           capture_output=True, text=True)  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    for job, line in zip(("train", "predict"), ended.stdout.splitlines()[-2:], strict=True):
        name, count, said = line.split(" ", 2)
        assert name == f"{job}:" and int(count) > 100 and said == "tensors, none of float64"
