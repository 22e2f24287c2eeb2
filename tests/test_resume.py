"""A run that was broken off and resumed equals the undisturbed one, bit for bit; a damaged state is never used."""

import errno
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
import trainer
from system import files
from system.errors import UserError
from tests.conftest import ROOT
from tests.short_runs import arguments, assert_same_end, differences, files_below, newest_state, one_line, options
from training import resumption
from training.resumption import FREE_ON_RESUME
from training.run import states
from training.run.identity import check_identity, identity

LONG = ("--num_epochs", 2, "--drop_path", 0.3, "--lr", 1e-3, 1e-5, 3, 1e-3, 1e-5, 3)
STEPS = 6  # of LONG


class Crash(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def run_until(monkeypatch):
    """run_until(argv, step): train, and crash before the given step's update is counted."""

    def run(argv, step):
        whole = trainer.Trainer._optimise

        def optimise(self, batches):
            if self.step + 1 == step:
                raise Crash
            return whole(self, batches)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.Trainer, "_optimise", optimise)
            with pytest.raises(Crash):
                train.main(argv)

    return run


@pytest.fixture(scope="module")
def undisturbed(synthetic_drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train.main(arguments(synthetic_drive, folder, *LONG)) == 0
    return folder / "run"


@pytest.mark.parametrize("step, more", [
    (5, ()),
    (3, ("--save_steps", 1, "--val_steps", 1)),
    (6, ("--save_steps", 2, "--num_workers", 2)),
])  # fmt: skip
def test_a_resumed_run_equals_the_undisturbed_one(undisturbed, short_run, run_until, tmp_path, step, more):
    run_until(short_run(*LONG, *more), step)
    torch.manual_seed(99)  # what the process did in between does not matter
    assert train.main(short_run(*LONG, *more, "--resume")) == 0
    assert_same_end(undisturbed, tmp_path / "runs" / "run")


def test_killed_at_random_moments_it_ends_the_same():
    words = ["--kills", "3", "--signals", "KILL", "TERM", "--seed", "9"]
    # in a process of its own: it forks, which a process that has run other tests' threads had better not
    ended = subprocess.run([sys.executable, "-m", "tests.kill_and_resume", *words], cwd=ROOT, capture_output=True,
                           text=True, timeout=400)  # fmt: skip
    assert ended.returncode == 0, ended.stderr


# --- damaged states, and those of other runs ------------------------------------------------------------------------


def test_a_damaged_state_is_named_and_the_one_before_is_used(undisturbed, short_run, tmp_path, caplog):
    run = tmp_path / "runs" / "run"
    shutil.copytree(undisturbed, run)
    older, newer = sorted((run / "states").iterdir())
    newer.write_bytes(newer.read_bytes()[:-1])
    (run / "states" / "state_00000007.pt").write_bytes(b"something else")
    caplog.set_level(logging.INFO)
    assert train.main(short_run(*LONG, "--resume")) == 0
    assert "truncated or altered" in caplog.text and "not a resumable state" in caplog.text
    assert newer.name in caplog.text and f"resumed from {older}" in caplog.text
    assert_same_end(undisturbed, run)
    assert sorted((run / "states").iterdir()) == [older, newer]  # the foreign one is of no later step of this run


@pytest.mark.parametrize("change", ["cut", "flip", "empty", "foreign", "pickle"])
def test_what_is_not_a_whole_state_is_refused(tmp_path, change):
    path = tmp_path / "state_00000001.pt"
    states.write(path, {"a": torch.arange(5)})
    whole = path.read_bytes()
    flipped = whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]
    hostile = b"cos\nsystem\n(S'touch /tmp/hostile'\ntR."
    digest = states.hashlib.sha256(hostile).digest()
    bad = {
        "cut": whole[:-3],
        "flip": flipped,
        "empty": b"",
        "foreign": b"x" * 500,
        "pickle": states.MAGIC + digest + hostile,
    }
    path.write_bytes(bad[change])
    with pytest.raises(UserError):
        states.read(path)
    assert not os.path.exists("/tmp/hostile")


def test_no_state_at_all_is_one_line(short_run, capsys):
    assert train.main(short_run("--resume")) == 2
    assert "no complete state to resume from" in one_line(capsys)


def test_another_run_cannot_be_continued(undisturbed, short_run, tmp_path, capsys):
    shutil.copytree(undisturbed, tmp_path / "runs" / "run")
    before = files_below(tmp_path / "runs" / "run" / "states")
    for words in ("--seed 4", "--batch_size 2", "--lr 1 0 9 1 0 9", "--no_ssim"):
        assert train.main(short_run(*LONG, "--resume", *words.split())) == 2
        assert f"another {words.split()[0][2:]}" in one_line(capsys)
    assert files_below(tmp_path / "runs" / "run" / "states") == before


@pytest.mark.parametrize("words", ["--png", "--min_depth 0.2", "--jitter_per_image", "--drop_path 0.1"])
def test_every_option_that_is_not_free_is_part_of_the_identity(undisturbed, short_run, words):
    mine = identity(options(*short_run(*LONG)), FREE_ON_RESUME, processes=1)
    other = identity(options(*short_run(*LONG, *words.split())), FREE_ON_RESUME, processes=1)
    with pytest.raises(UserError, match=f"another {words.split()[0][2:]}"):
        check_identity(other, mine, "start anew")
    with pytest.raises(UserError, match="not known, was"):
        check_identity({}, mine, "start anew")
    free = identity(options(*short_run(*LONG, "--num_epochs", 9, "--num_workers", 3)), FREE_ON_RESUME, processes=1)
    check_identity(free, mine, "start anew")


def test_another_rate_is_refused_with_the_way_out(undisturbed, short_run, tmp_path, capsys):
    shutil.copytree(undisturbed, tmp_path / "runs" / "run")
    assert train.main(short_run(*LONG, "--lr", 1, 0, 9, 1, 0, 9, "--resume", "auto")) == 2
    assert f"--load_weights_folder {tmp_path}/runs/run/models/weights_best, no --resume" in one_line(capsys)


def test_auto_starts_where_there_is_nothing_to_continue(undisturbed, short_run, tmp_path):
    auto = short_run(*LONG, "--resume", "auto")
    assert train.main([*auto, "--max_steps", "2"]) == 0
    assert train.main(auto) == 0
    assert train.main(auto) == 0  # and once more, with nothing left to do
    assert not (tmp_path / "runs" / "run.1").exists()


def test_a_cache_built_found_or_begun_by_a_killed_run_is_the_same_run(short_run, run_until, tmp_path):
    cached = short_run(*LONG, "--cache", tmp_path / "cache", "--num_workers", 1)
    for name, crash in (("builds", None), ("finds", None), ("killed", 1)):
        if crash:
            shutil.rmtree(tmp_path / "cache")
            run_until([*cached, "--model_name", name], crash)
        assert train.main([*cached, "--model_name", name, "--resume", "auto"]) == 0
    for name in ("finds", "killed"):
        assert_same_end(tmp_path / "runs" / "builds", tmp_path / "runs" / name)


def test_a_changed_number_of_processes_is_refused(undisturbed, short_run, tmp_path, monkeypatch, capsys):
    shutil.copytree(undisturbed, tmp_path / "runs" / "run")
    identity = resumption.Resumption._identity
    monkeypatch.setattr(resumption.Resumption, "_identity", lambda *given: identity(*given) | {"processes": 2})
    assert train.main(short_run(*LONG, "--resume")) == 2
    assert "another processes; 2, was 1" in one_line(capsys)


def test_a_named_state_is_continued_and_later_ones_give_way(undisturbed, short_run, tmp_path):
    run = tmp_path / "runs" / "run"
    shutil.copytree(undisturbed, run)
    older = run / "states" / "state_00000003.pt"
    assert train.main(short_run(*LONG, "--resume", older, "--max_steps", 5, "--save_steps", 2)) == 0
    assert [path.name for path in sorted((run / "states").iterdir())] == ["state_00000004.pt", "state_00000005.pt"]


def test_a_new_run_sets_an_earlier_one_aside(undisturbed, short_run, tmp_path, caplog):
    runs = tmp_path / "runs"
    shutil.copytree(undisturbed, runs / "run")
    assert train.main(short_run("--max_steps", 1)) == 0
    assert files_below(runs / "run.1" / "states") == files_below(undisturbed / "states")
    assert "an earlier run was found here" in caplog.text


def test_a_folder_that_is_no_run_is_left_alone(short_run, tmp_path, capsys):
    precious = tmp_path / "runs" / "run" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("chapter one")
    assert train.main(short_run()) == 2
    assert "holds something else" in one_line(capsys)
    assert files_below(tmp_path / "runs" / "run") == ["thesis.tex"]


# --- disks that fail --------------------------------------------------------------------------------------------------


class FailingDisk:
    """Lets `good` operations of `files` succeed; the next one finds the disk full."""

    def __init__(self, monkeypatch, good):
        self.left = good
        monkeypatch.setattr(files, "open", self.open, raising=False)
        monkeypatch.setattr(files.os, "fsync", self.counted(lambda _: None))  # the real one takes its time
        for name in ("replace", "makedirs", "rename"):
            monkeypatch.setattr(files.os, name, self.counted(getattr(os, name)))

    def spend(self):
        self.left -= 1
        if self.left == -1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def counted(self, function):
        def spending(*arguments, **settings):
            self.spend()
            return function(*arguments, **settings)

        return spending

    def open(self, *arguments, **settings):
        self.spend()
        file = open(*arguments, **settings)  # noqa: SIM115
        return FailingFile(file, self) if "w" in file.mode else file


class FailingFile:
    """A file whose writes count."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def write(self, data):
        self.disk.spend()
        return self.file.write(data)


def contents(folder):
    """Return {name: bytes} of the files of a folder."""
    return {name: (Path(folder) / name).read_bytes() for name in files_below(folder)}


def test_a_write_failing_anywhere_in_a_save_leaves_the_last_good_state(synthetic_drive, tmp_path, monkeypatch):
    run = trainer.Trainer(options(*arguments(synthetic_drive, tmp_path, "--max_steps", 1)))
    run.train()
    run.step, run.optimisation.optimisers = 2, {}  # many small saves
    good = newest_state(run.run.path)
    saves = {"state": run._save_state, "weights": lambda: run.kept.save(0, loss=1.0)}
    weights = contents(run.run.weights(0))
    for what, save in saves.items():
        failures = 0
        while True:
            with monkeypatch.context() as patch:
                FailingDisk(patch, failures)
                try:
                    save()
                except UserError as problem:
                    assert problem.what == "the disk is full"
                else:
                    break
            failures += 1
            if what == "state":
                assert not differences(newest_state(run.run.path), good)
            else:
                assert contents(run.run.weights(0)) == weights
        assert failures > {"state": 5, "weights": 10}[what]
    assert len(run.states.paths()) == 2


def test_a_full_disk_stops_the_run_with_one_line_and_it_resumes(undisturbed, short_run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        write = states.write

        def full(path, value):
            if value["progress"][2] == 6:
                patch.setattr(files.os, "fsync", FailingDisk(patch, 0).counted(os.fsync))
            write(path, value)

        patch.setattr(states, "write", full)
        assert train.main(short_run(*LONG)) == 2
    assert "the disk is full" in one_line(capsys)
    assert [name for name in files_below(tmp_path / "runs") if "partial" in name] == []
    assert train.main(short_run(*LONG, "--resume")) == 0
    assert_same_end(undisturbed, tmp_path / "runs" / "run")


@pytest.mark.parametrize("place", ["file", "system"])
def test_an_unwritable_log_dir_is_one_line(short_run, tmp_path, capsys, place):
    file = tmp_path / "file"
    file.write_text("")
    assert train.main(short_run("--log_dir", file if place == "file" else "/proc/nowhere")) == 2
    one_line(capsys)


def test_a_second_process_in_the_folder_is_refused(short_run, tmp_path, capsys):
    code = "import sys; from training.run.folder import RunFolder; run = RunFolder(sys.argv[1], 'run'); run.lock(); "
    code += "print(1, flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as first:
        assert first.stdout.readline() == "1\n"
        assert train.main(short_run()) == 2
        assert "another process is training in this folder" in one_line(capsys)
        first.communicate("\n")
    assert train.main(short_run("--max_steps", 1)) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_sigterm_saves_and_exits_with_its_code(undisturbed, short_run, tmp_path, monkeypatch, capsys, workers):
    whole = trainer.Trainer._optimise

    def optimise(self, batches):
        if self.step == 4:  # to every process, as clusters do
            for pid in (*(child.pid for child in multiprocessing.active_children()), os.getpid()):
                os.kill(pid, signal.SIGTERM)
        return whole(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_optimise", optimise)
        assert train.main(short_run(*LONG, "--num_workers", workers)) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capsys.readouterr().out
    assert newest_state(tmp_path / "runs" / "run")["progress"] == [1, 2, 5]
    assert train.main(short_run(*LONG, "--resume")) == 0
    assert_same_end(undisturbed, tmp_path / "runs" / "run")


def test_halves_that_a_killed_process_left_are_swept(undisturbed, short_run, tmp_path):
    run = tmp_path / "runs" / "run"
    shutil.copytree(undisturbed, run)
    half = run / "models" / ".weights_0.partial-12345678"
    half.mkdir()
    (half / "depth.pth").write_bytes(b"half")
    assert train.main(short_run(*LONG, "--resume")) == 0
    assert not half.exists()
