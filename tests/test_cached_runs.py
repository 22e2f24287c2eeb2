"""--cache changes nothing: built, found, half there, killed at any time, in memory, on one or two ranks, to the bit."""

import json
import os
import shutil
import sys
import time

import numpy as np
import pytest

import train
from tests.ranks import free_port
from tests.short_runs import arguments, assert_same_end, newest_state
from tests.test_ending import Run

STEPS = ("--num_epochs", 2, "--save_steps", 1)


# --- one process ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uncached(synthetic_drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncached")
    assert train.main(arguments(synthetic_drive, folder, *STEPS)) == 0
    return folder / "run"


def frames_folder(cache):
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def overwrite(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


DAMAGES = {
    "half the bytes": lambda folder: os.truncate(folder / "frames.u8", os.path.getsize(folder / "frames.u8") // 2),
    "zeros in its second half": lambda folder: overwrite(folder / "frames.u8"),
    "no index": lambda folder: os.unlink(folder / "index.npz"),
    "of another version": lambda folder: (folder / "about.json").write_text(json.dumps({"version": 0})),
}


def test_built_and_found_and_in_memory_equal_a_run_without(uncached, synthetic_drive, tmp_path):
    for name, cache in (("built", tmp_path / "cache"), ("found", tmp_path / "cache"), ("ram", "ram")):
        argv = arguments(synthetic_drive, tmp_path / name, *STEPS, "--cache", cache)
        assert train.main(argv) == 0
        assert_same_end(uncached, tmp_path / name / "run")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_half_there_equals_a_run_without(uncached, synthetic_drive, tmp_path, damage):
    argv = arguments(synthetic_drive, tmp_path, *STEPS, "--cache", tmp_path / "cache")
    assert train.main([*argv, "--max_steps", "1"]) == 0
    damage(frames_folder(tmp_path / "cache"))
    shutil.rmtree(tmp_path / "run")
    assert train.main(argv) == 0
    assert_same_end(uncached, tmp_path / "run")


def test_workers_make_the_same_run_with_and_without(uncached, synthetic_drive, tmp_path):
    for name, more in (("with", ("--cache", tmp_path / "cache")), ("without", ())):
        assert train.main(arguments(synthetic_drive, tmp_path / name, *STEPS, "--num_workers", 2, *more)) == 0
        assert_same_end(uncached, tmp_path / name / "run")


def test_a_run_goes_on_with_or_without(uncached, synthetic_drive, tmp_path):
    argv = arguments(synthetic_drive, tmp_path, *STEPS)
    assert train.main([*argv, "--max_steps", "2", "--cache", "ram"]) == 0
    assert train.main([*argv, "--resume", "--max_steps", "4"]) == 0
    assert train.main([*argv, "--resume", "--cache", str(tmp_path / "cache")]) == 0
    assert not differences_of_ends(uncached, tmp_path / "run")


def differences_of_ends(run, other):
    """Return the names of the weights at which two runs' last states differ; they may have validated otherwise."""
    mine, theirs = (newest_state(each)["networks"] for each in (run, other))
    return [key for key in mine if not np.array_equal(mine[key].numpy(), theirs[key].numpy())]


# --- two processes of one run ---------------------------------------------------------------------------------------

SECOND = '(export RANK=1 LOCAL_RANK=1; exec "$@") & export RANK=0 LOCAL_RANK=0;'  # beside the first, without a launcher


def two_ranks(*argv, **environment):
    """Train in two processes; see `tests.two_processes` for what the environment may ask of them."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return Run(sys.executable, "-m", "tests.two_processes", *argv, limits=SECOND, **meeting, **environment)


@pytest.fixture(scope="module")
def uncached_pair(synthetic_drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncached_pair")
    code, lines = two_ranks(*pair_arguments(synthetic_drive, folder)).end()
    assert code == 0, lines
    return folder / "run"


def pair_arguments(data, folder, *more):
    return arguments(data, folder, *STEPS, "--batch_size", 3, "--num_workers", 1, *more)


def test_two_ranks_with_a_cache_killed_while_building_and_in_training(uncached_pair, synthetic_drive, tmp_path):
    cache = tmp_path / "cache"
    argv = pair_arguments(synthetic_drive, tmp_path, "--cache", cache, "--resume", "auto")
    run = two_ranks(*argv, SLOW_FRAMES="0.3")
    wait_for(run, lambda: cache.is_dir() and any(name.startswith(".frames") for name in os.listdir(cache)))
    time.sleep(1)
    run.kill_all()  # what is built is lost, the rubbish stays
    run.process.communicate()
    assert any(name.startswith(".frames") for name in os.listdir(cache))

    run = two_ranks(*argv, SLOW_STEPS="0.3")  # builds it, and is killed in the middle of an epoch
    wait_for(run, lambda: (tmp_path / "run" / "states" / "state_00000002.pt").exists())
    run.kill_all()
    run.process.communicate()
    assert sorted(name[:7] for name in os.listdir(cache)) == [".lock", "frames_"]
    assert newest_state(tmp_path / "run")["progress"][2] < 6

    code, lines = two_ranks(*argv).end()  # finds it, and goes on
    assert code == 0, lines
    assert_same_end(uncached_pair, tmp_path / "run")


def test_two_ranks_with_a_cache_half_there(uncached_pair, synthetic_drive, tmp_path):
    argv = pair_arguments(synthetic_drive, tmp_path / "before", "--cache", tmp_path / "cache", "--max_steps", 1)
    assert train.main(argv) == 0
    overwrite(frames_folder(tmp_path / "cache") / "frames.u8")
    code, lines = two_ranks(*pair_arguments(synthetic_drive, tmp_path, "--cache", tmp_path / "cache")).end()
    assert code == 0, lines
    assert_same_end(uncached_pair, tmp_path / "run")


def test_two_ranks_with_a_cache_in_memory(uncached_pair, synthetic_drive, tmp_path):
    code, lines = two_ranks(*pair_arguments(synthetic_drive, tmp_path, "--cache", "ram")).end()
    assert code == 0, lines
    assert_same_end(uncached_pair, tmp_path / "run")


def wait_for(run, there, seconds=120):
    deadline = time.monotonic() + seconds
    while not there():
        assert run.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
