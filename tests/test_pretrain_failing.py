"""ImageNet pre-training: a run that fails says one line, ends soon, and leaves no process behind."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.pretraining import FOLDER, SMALL

START = 120  # seconds in which a run comes to its error, on a busy machine too
SOON = 10  # seconds from the line of error to the end of all processes
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def failing_run(folder, flags, launch=(), act=None):
    """Run main.py; return (exit code, lines of error) once it and all its processes have ended.

    Args:
        folder: for what it writes.
        flags: its options.
        launch: python's arguments before the script.
        act: called with the id of the process, again and again until the error is there.
    """
    command = [sys.executable, *launch, os.path.join(FOLDER, "main.py"), *SMALL, "--output_dir", str(folder / "run")]
    with open(folder / "stderr", "wb+") as stderr, open(folder / "stdout", "wb") as stdout:
        process = subprocess.Popen([*command, *flags], stdout=stdout, stderr=stderr, start_new_session=True)
        try:
            began = time.monotonic()
            while b"error: " not in (folder / "stderr").read_bytes() and process.poll() is None:
                assert time.monotonic() - began < START, (folder / "stdout").read_text()
                if act is not None:
                    act(process.pid)
                time.sleep(0.1)
            code = process.wait(SOON)
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    said = (folder / "stderr").read_text()
    return code, said


def errors(said):
    assert "Traceback" not in said
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.fixture
def one_broken(three_classes, tmp_path):
    """A folder of images of which one is cut off; its path and the image's."""
    shutil.copytree(three_classes, tmp_path / "data")
    name = sorted(os.listdir(tmp_path / "data" / "train"))[0]
    path = tmp_path / "data" / "train" / name / "001.png"
    path.write_bytes(path.read_bytes()[:200])
    return str(tmp_path / "data"), str(path)


def test_a_broken_image_ends_the_run(one_broken, tmp_path):
    """With workers; tests/test_pretrain.py has the same without."""
    flags = ["--data_path", one_broken[0], "--num_workers", "2", "--epochs", "2", "--update_freq", "1"]
    code, said = failing_run(tmp_path, flags)
    assert code == 2 and said.count("\n") == len(errors(said)) == 1 and one_broken[1] in said


def test_a_loss_that_is_not_finite_ends_the_run(three_classes, tmp_path):
    flags = ["--data_path", three_classes, "--num_workers", "2", "--epochs", "50", "--update_freq", "1"]
    code, said = failing_run(tmp_path, [*flags, "--lr", "1e30", "--disable_eval"])
    assert code == 2 and len(errors(said)) == 1 and "not finite" in said
    assert os.path.exists(tmp_path / "run" / "not_finite.json")


def test_a_loader_that_is_killed_ends_the_run(three_classes, tmp_path):
    def kill_a_loader(parent):
        if (tmp_path / "run" / "states").is_dir():
            with open(f"/proc/{parent}/task/{parent}/children") as children:
                for each in children.read().split():
                    os.kill(int(each), signal.SIGKILL)

    flags = ["--data_path", three_classes, "--num_workers", "1", "--epochs", "5000", "--update_freq", "1"]
    code, said = failing_run(tmp_path, [*flags, "--disable_eval", "--save_steps", "1"], act=kill_a_loader)
    assert code == 2 and len(errors(said)) == 1 and "process that loads data has died" in said


def test_two_processes_end_when_an_image_is_broken(one_broken, tmp_path):
    flags = ["--data_path", one_broken[0], "--num_workers", "1", "--epochs", "2", "--update_freq", "1"]
    code, said = failing_run(tmp_path, [*flags, "--batch_size", "2"], TWO_PROCESSES)
    assert code != 0 and one_broken[1] in said


def test_the_older_launchers_option_leads_to_torchrun(three_classes, tmp_path):
    code, said = failing_run(tmp_path, ["--data_path", three_classes, "--local-rank=0"])
    assert code == 2 and "torchrun" in said and len(errors(said)) == 1
