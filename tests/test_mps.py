"""--device mps: everything that is asked of an Apple GPU is something it has, shown on fake tensors without one."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.gpu_on_paper import missing


@pytest.mark.skipif(missing() == "there is no g++", reason="there is no g++")
@pytest.mark.parametrize("words", [("train",), ("predict", "float32")])
def test_training_and_prediction_ask_for_no_float64_on_an_apple_gpu(words):
    ended = subprocess.run([sys.executable, "-m", "tests.mps_on_paper", *words], cwd=ROOT, capture_output=True,
                           text=True, timeout=300)  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    count, said = ended.stdout.splitlines()[-1].split(" ", 1)
    assert int(count) > 100 and said == "tensors, none of float64"
