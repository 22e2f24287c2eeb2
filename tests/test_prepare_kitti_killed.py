"""prepare_kitti.py broken off in any step, or run twice at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from evaluation.ground_truth_file import load_ground_truth
from system import files
from tests.kitti_preparation import (
    ROOT,
    STEPS,
    TRAIN_PATH,
    arguments,
    complete,
    prepare,
    tree,
)


def start(kitti_site, tmp_path, *more, **settings):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "prepare_kitti.py"), *arguments(kitti_site, tmp_path, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def test_two_runs_at_once_do_the_work_once(kitti_site, kitti_split, tmp_path):
    kitti_site.slow = 0.05
    runs = [start(kitti_site, tmp_path, "--delete_png", "--delete_archives") for _ in range(2)]
    said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert tree(tmp_path) == complete() and len(kitti_site.asked(TRAIN_PATH)) == 1
    assert sum("waiting for it" in err for _, err in said) == 1


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_any_step_it_goes_on(kitti_site, kitti_split, tmp_path, step):
    before = STEPS[: STEPS.index(step)]
    if before:
        assert prepare(kitti_site, tmp_path, "--steps", *before) == 0
    slow = tmp_path / "slow"
    slow.mkdir()
    # every write to the disk is slowed down, so that the kill falls into the middle of the step
    (slow / "sitecustomize.py").write_text(
        "import os, time\nfsync = os.fsync\ndef later(handle):\n    fsync(handle)\n"
        f"    open({str(tmp_path / 'begun')!r}, 'a').close()\n    time.sleep(2)\nos.fsync = later\n"
    )
    kitti_site.slow = 0.2
    run = start(kitti_site, tmp_path, "--steps", step, env={**os.environ, "PYTHONPATH": str(slow)})
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    if step != "verify":
        assert run.poll() is None, "the step ended before it could be killed"
    run.send_signal(signal.SIGKILL)
    run.communicate()
    kitti_site.slow = 0
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete()
    left = [path for path in (tmp_path / "kitti").rglob("*") if files.is_partial(path.name)]
    assert left == [] and len(load_ground_truth(str(kitti_split / "gt_depths.npz"))) == 2


def test_interruption_is_quiet(kitti_site, kitti_split, tmp_path):
    kitti_site.slow = 2.0
    run = start(kitti_site, tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=40)
    assert run.returncode == 130 and err == "interrupted\n", err
