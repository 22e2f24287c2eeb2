"""What a training step asks of a GPU, counted with fake tensors (nothing here has run on one); budgets only go down."""

import json
import subprocess
import sys

import pytest

from tests import gpu_on_paper
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(gpu_on_paper.missing() is not None, reason=f"{gpu_on_paper.missing()}")

OPERATIONS, GIGABYTES = 2360, 62.0  # of the default step in float32, batch 12 at 640x192

VARIANTS = {
    "default": (),
    "bf16": ("--amp", "bf16"),
    "fp16": ("--amp", "fp16"),
    "posecnn": ("--pose_model_type", "posecnn"),
    "shared": ("--pose_model_type", "shared"),
    "all": ("--pose_model_input", "all"),
    "stereo": ("--use_stereo",),
    "stereo only": ("--use_stereo", "--frame_ids", "0"),
    "mask": ("--predictive_mask", "--disable_automasking"),
    "v1_multiscale": ("--v1_multiscale",),
    "average": ("--avg_reprojection",),
    "accumulated": ("--grad_accum", "2"),
    "one scale": ("--scales", "0"),
    "jitter per image": ("--jitter_per_image",),
}


def count(*words):
    ended = subprocess.run([sys.executable, "-m", "tests.gpu_on_paper", *map(str, words)], cwd=ROOT, timeout=300,
                           capture_output=True, text=True)  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_the_default_step_stays_within_its_budget():
    found = count(12, 192, 640)
    assert found["operations"] <= OPERATIONS and found["gigabytes"] <= GIGABYTES, found


@pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS)
def test_the_host_waits_once_a_step_and_nothing_blocks(flags):
    found = count(2, 32, 64, "--model", "lite-mono-tiny", *flags)
    assert sum(found["waits"].values()) == 1 and not found["blocking copies"] and not found["float64"], found
