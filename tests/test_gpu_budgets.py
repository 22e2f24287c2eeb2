"""What a training step asks of a GPU, counted with fake tensors (nothing here has run on one); budgets only go down."""

import json
import subprocess
import sys

import pytest

from tests import gpu_fusion, gpu_on_paper
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(gpu_on_paper.missing() is not None, reason=f"{gpu_on_paper.missing()}")

OPERATIONS, GIGABYTES = 2360, 62.0  # of the default step in float32, batch 12 at 640x192
FUSED_KERNELS, FUSED_GIGABYTES = 852, 29.44  # of the compiled step in bf16

# Each option is in one of them: a wait, a copy or float64 would show beside whatever others. The default is FULL.
VARIANTS = {
    "bf16, posecnn, average": ("--amp", "bf16", "--pose_model_type", "posecnn", "--avg_reprojection"),
    "fp16, accumulated, jitter per image": ("--amp", "fp16", "--grad_accum", "2", "--jitter_per_image"),
    "all, v1_multiscale": ("--pose_model_input", "all", "--v1_multiscale"),
    "shared, stereo, mask": ("--pose_model_type", "shared", "--use_stereo", "--predictive_mask",
                             "--disable_automasking"),
    "stereo only, one scale": ("--use_stereo", "--frame_ids", "0", "--scales", "0"),
}  # fmt: skip


BROKEN = {  # how, and by what it is noticed
    "a number read": "waits",
    "pixels chosen by a mask": "waits",
    "copies that block": "copies",
    "arithmetic in float64": "float64",
    "one more map": "gigabytes",
    "a few more operations": "operations",
}
FULL, SMALL = (12, 192, 640), (2, 32, 64, "--model", "lite-mono-tiny")


def on_paper(*words, given=None):
    ended = subprocess.run([sys.executable, "-m", "tests.gpu_on_paper", *map(str, words)], cwd=ROOT, timeout=500,
                           capture_output=True, text=True, input=given)  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def beyond(found):
    """Return the budgets of the default step that are not kept."""
    kept = {
        "operations": found["operations"] <= OPERATIONS,
        "gigabytes": found["gigabytes"] <= GIGABYTES,
        "waits": sum(found["waits"].values()) == 1,
        "copies": not found["blocking copies"],
        "float64": not found["float64"],
    }
    return {name for name, within in kept.items() if not within}


def test_budgets_are_kept_and_each_that_is_broken_is_noticed():
    steps = {name: [*SMALL, *flags] for name, flags in VARIANTS.items()} | {"full": FULL}
    found = on_paper("-", given=json.dumps(steps))  # all in one process, steps that are BROKEN too
    assert not beyond(found["full"]), found["full"]
    variants = {name: beyond(found[name]) & {"waits", "copies", "float64"} for name in VARIANTS}
    assert not any(variants.values()), variants
    missed = {name: found[name] for name, what in BROKEN.items() if what not in beyond(found[name])}
    assert not missed, missed


def test_budgets_of_the_compiled_step_are_kept_and_a_broken_one_is_noticed():
    found = on_paper("--compiled", *FULL, "--amp", "bf16", "--parts", *gpu_fusion.PARTS, "broken")
    assert found["kernels"] <= FUSED_KERNELS and found["gigabytes"] <= FUSED_GIGABYTES, found
    more = {name: found["parts"]["broken"][name] - found["parts"]["loss"][name] for name in ("kernels", "gigabytes")}
    assert found["kernels"] + more["kernels"] > FUSED_KERNELS, found
    assert found["gigabytes"] + more["gigabytes"] > FUSED_GIGABYTES, found
