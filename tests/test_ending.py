"""Whatever makes a run fail, it ends: one line, its exit code, no process left, within seconds. All real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.ranks import free_port
from tests.short_runs import arguments, newest_state

PATIENCE = 10.0  # seconds from what goes wrong to the end of the last process, on a machine that is not overloaded
START = 120.0  # until a run is under way


class Run:
    """A command in its own process; `mark` is found in the environment of every process that stems from it."""

    def __init__(self, *command, limits="", **environment):
        self.mark = f"RUN_OF_THIS_TEST={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        shell = ["bash", "-c", f'{limits} exec "$@"', "bash", *map(str, command)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | environment.pop("streams", {})
        own = {**os.environ, "OMP_NUM_THREADS": "1", name: value, **environment}
        self.process = subprocess.Popen(shell, cwd=ROOT, env=own, text=True, **streams)

    def wait_for(self, text):
        """Read lines of stdout up to the one that holds `text`."""
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} never came: {lines} {self.process.stderr.read()}")

    def end(self, patience=START):
        """Wait for the end; return (exit code, lines on stderr), and assert that no process is left."""
        try:
            _, error = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs: {self.processes()}") from None
        finally:
            self.process.kill()
        deadline = time.monotonic() + 5
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not self.processes()
        return self.process.returncode, [line for line in (error or "").splitlines() if line.strip()]

    def processes(self):
        """Return {process: command} of what is alive and stems from this run."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if self.mark.encode() in (folder / "environ").read_bytes() and words != [b""]:  # no zombie
                    found[int(folder.name)] = b" ".join(words[:3]).decode()
            except OSError:
                continue
        return found

    def kill_all(self):
        for process in self.processes():
            os.kill(process, signal.SIGKILL)


def train(*argv, **settings):
    return Run(sys.executable, ROOT / "train.py", *argv, **settings)


def torchrun(*argv, **settings):
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    return Run(sys.executable, *launcher, ROOT / "train.py", *argv, **settings)


def errors(lines):
    return [line for line in lines if line.startswith("error: ")]


@pytest.fixture
def broken_drive(synthetic_drive, tmp_path):
    """A drive of which an image is missing."""
    data = tmp_path / "data"
    shutil.copytree(synthetic_drive, data)
    next(data.glob("*/*_0001_sync/image_02/data/*3.jpg")).unlink()
    return data


def test_a_missing_image_ends_a_run_with_any_number_of_workers(broken_drive, tmp_path):
    """Of none: tests/test_mistakes.py."""
    runs = {workers: train(*arguments(broken_drive, tmp_path / str(workers), "--num_workers", workers))
            for workers in (1, 12)}  # fmt: skip
    for run in runs.values():
        code, lines = run.end()
        assert code == 2 and len(lines) == 1 and lines[0].startswith("error: missing image; "), lines


def test_a_missing_image_ends_both_ranks(broken_drive, tmp_path):
    run = torchrun(*arguments(broken_drive, tmp_path, "--num_workers", 1, "--batch_size", 3))
    code, lines = run.end()
    assert code != 0 and any("missing image" in line for line in errors(lines))
    assert len(errors(lines)) <= 2 and not [line for line in lines if "UserError" in line]


def test_a_number_that_is_not_finite_ends_a_run_with_workers(synthetic_drive, tmp_path):
    argv = arguments(synthetic_drive, tmp_path, "--num_workers", 2, "--min_depth", 1e-320)
    code, lines = train(*argv).end()
    assert code == 2 and len(lines) == 1 and "not finite" in lines[0], lines
    assert (tmp_path / "run" / "not_finite.json").is_file()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_ends_the_run(synthetic_drive, tmp_path, signum):
    run = train(*arguments(synthetic_drive, tmp_path, "--num_workers", 2, "--num_epochs", 500))
    run.wait_for("step 1/")
    workers = [process for process in run.processes() if process != run.process.pid]
    assert len(workers) >= 2
    os.kill(workers[0], signum)
    code, lines = run.end(PATIENCE + 20)
    assert code == 2 and len(lines) == 1 and "a process that loads data has died" in lines[0], lines


SMALL_SHM = "mount --make-rprivate / && mount -t tmpfs -o size=64k tmpfs /dev/shm"


@pytest.mark.skipif(subprocess.run(["unshare", "-m", "bash", "-c", SMALL_SHM], capture_output=True).returncode != 0,
                    reason="no file system of its own can be mounted here")  # fmt: skip
@pytest.mark.parametrize("start", [1, 2])
def test_a_tiny_shared_memory_is_named(synthetic_drive, tmp_path, start):
    argv = arguments(synthetic_drive, tmp_path, "--num_workers", 1, "--batch_size", 3)
    limits = f'exec unshare -m bash -c \'{SMALL_SHM} && exec "$@"\' bash "$@";'
    run = (train if start == 1 else torchrun)(*argv, limits=limits)
    code, lines = run.end()
    assert code != 0 and errors(lines) and all("/dev/shm" in line or "is gone" in line for line in errors(lines)), lines
    assert start == 2 or (code, len(lines)) == (2, 1)


def test_a_run_that_is_stopped_for_a_while_goes_on_and_a_hang_up_saves_the_state(synthetic_drive, tmp_path):
    run = train(*arguments(synthetic_drive, tmp_path, "--num_workers", 2, "--num_epochs", 500))
    run.wait_for("step 1/")
    for signum in (signal.SIGSTOP, signal.SIGCONT):
        for process in run.processes():
            os.kill(process, signum)
        time.sleep(1)
    run.wait_for("step ")
    run.process.send_signal(signal.SIGHUP)
    code, lines = run.end(PATIENCE + 20)
    assert (code, lines) == (128 + signal.SIGHUP, [])
    assert newest_state(tmp_path / "run")["progress"][2] > 1


def test_a_data_folder_that_vanishes_ends_the_run(broken_drive, tmp_path):
    run = train(*arguments(broken_drive, tmp_path, "--num_workers", 2, "--num_epochs", 500, "--on_bad_sample", "skip"))
    run.wait_for("step 1/")
    shutil.rmtree(broken_drive)
    code, lines = run.end(PATIENCE + 20)
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines


def test_few_file_handles_are_named(synthetic_drive, tmp_path):
    code, lines = train(*arguments(synthetic_drive, tmp_path, "--num_workers", 12), limits="ulimit -n 64;").end()
    assert code == 2 and len(lines) == 1 and "too many open files" in lines[0] and "ulimit -n" in lines[0], lines


def test_a_worker_without_file_handles_ends_the_run(synthetic_drive, tmp_path):
    """Its threads cannot hand a batch over: training would wait for it for ever."""
    code, lines = train(*arguments(synthetic_drive, tmp_path, "--num_workers", 2), limits="ulimit -n 50;").end()
    assert code == 2 and len(lines) == 1 and "ulimit -n" in lines[0], lines


def test_a_limit_to_the_size_of_files_is_named(synthetic_drive, tmp_path):
    code, lines = train(*arguments(synthetic_drive, tmp_path, "--max_steps", 1), limits="ulimit -f 200;").end()
    assert code == 2 and len(lines) == 1 and "ulimit -f" in lines[0], lines


def test_an_output_that_fails_is_one_line_or_none(synthetic_drive, tmp_path):
    full = os.open("/dev/full", os.O_WRONLY)
    run = train(*arguments(synthetic_drive, tmp_path / "full"), streams={"stdout": full})
    left = train(*arguments(synthetic_drive, tmp_path / "left", "--num_epochs", 3))
    left.process.stdout.readline()
    left.process.stdout.close()
    code, lines = run.end()
    os.close(full)
    assert code == 2 and len(lines) == 1 and "the output cannot be written" in lines[0], lines
    left.process.stdout = None
    assert left.end() == (2, [])


def test_ranks_end_when_torchrun_was_killed(synthetic_drive, tmp_path):
    run = torchrun(*arguments(synthetic_drive, tmp_path, "--batch_size", 3, "--num_epochs", 5000))
    try:
        run.wait_for("step 1/")
        run.process.kill()
        deadline = time.monotonic() + 60
        while run.processes() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not run.processes()
        assert newest_state(tmp_path / "run")["progress"][2] >= 1  # they had the time to save it
    finally:
        run.kill_all()
        run.process.communicate()


def test_auto_starts_and_continues_by_one_command(synthetic_drive, tmp_path):
    argv = arguments(synthetic_drive, tmp_path, "--num_epochs", 500, "--resume", "auto", "--num_workers", 1)
    for expected in ("step 1/", "resumed from"):
        run = train(*argv)
        run.wait_for(expected)
        run.process.terminate()
        assert run.end()[0] == 128 + signal.SIGTERM
    assert not (tmp_path / "run.1").exists()


@pytest.mark.parametrize("place", ["state", "list"])
def test_a_pipe_in_place_of_a_file_is_refused(synthetic_drive, tmp_path, place):
    pipe = tmp_path / "train_files.txt"
    os.mkfifo(pipe)
    flags = {"state": ("--resume", pipe), "list": ("--split", tmp_path)}
    code, lines = train(*arguments(synthetic_drive, tmp_path / "runs"), *flags[place]).end()
    assert code == 2 and len(lines) == 1 and str(pipe) in lines[0] and "pipe" in lines[0], lines
