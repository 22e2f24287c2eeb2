"""`train.py --check_data`: what is missing and what is damaged, without a network."""

import shutil
import subprocess
import sys

import pytest

import train
from tests.short_runs import arguments, one_line


@pytest.fixture
def data(synthetic_drive, tmp_path):
    shutil.copytree(synthetic_drive, tmp_path / "data")
    return tmp_path / "data"


def check(data, *more):
    return train.main(arguments(data, data / "runs", "--num_workers", 2, "--check_data", *more))


def frame(data, number, camera=2):
    return next((data / "2000_01_01").glob(f"*_0001_sync/image_0{camera}/data/{number:010d}.jpg"))


def test_complete_data_are_complete_and_nothing_is_written(data, capsys):
    assert check(data, "--check_decode", "all", "--use_stereo") == 0
    printed = capsys.readouterr().out
    assert "20 items to train on, 2 items to validate on; 26 files, 0 missing" in printed
    assert "complete, 28 files read" in printed  # with the two scans to validate on
    assert not (data / "runs").exists()


def test_missing_files_are_listed_with_the_line_that_wants_them(data, capsys):
    gone = [frame(data, number) for number in (0, 7)]
    for path in gone:
        path.unlink()
    assert check(data, "--check_decode", "none") == 2
    captured = capsys.readouterr()
    for path in gone:
        assert f"{path} (wanted by train line" in captured.out
    assert captured.err.count("\n") == 1 and "2 files missing, 0 damaged" in captured.err


def test_only_what_is_wanted_is_missed(data):
    shutil.rmtree(frame(data, 0, camera=3).parent)
    lines = data / "splits" / "synthetic"
    for part in ("train", "val"):
        text = (lines / f"{part}_files.txt").read_text()
        (lines / f"{part}_files.txt").write_text(
            "".join(f"{line}\n" for line in text.splitlines() if line.endswith("l"))
        )
    assert check(data) == 0
    assert check(data, "--use_stereo") == 2


def test_long_lists_are_cut_and_counted(data, capsys):
    shutil.rmtree(data / "2000_01_01")
    assert check(data) == 2
    captured = capsys.readouterr()
    assert "missing: 26, the first 20:" in captured.out
    assert sum("wanted by" in line for line in captured.out.splitlines()) == 20
    assert "26 files missing" in captured.err


@pytest.mark.parametrize("how, code", [("none", 0), ("sample", 2), ("all", 2)])
def test_a_truncated_image_is_found_by_decoding(data, capsys, how, code):
    path = frame(data, 4)
    path.write_bytes(path.read_bytes()[:400])
    assert check(data, "--check_decode", how) == code
    captured = capsys.readouterr()
    assert (path.name in captured.out) == bool(code)
    assert ("1 damaged" in captured.err) == bool(code)


def test_a_truncated_scan_is_found(data, capsys):
    path = next((data / "2000_01_01").glob("*_0001_sync/velodyne_points/data/0000000005.bin"))
    path.write_bytes(path.read_bytes()[:-3])
    assert check(data, "--check_decode", "all") == 2
    assert path.name in capsys.readouterr().out


def test_a_missing_data_folder_is_one_line(data, capsys):
    assert check(data, "--data_path", data / "nowhere") == 2
    assert "no such data folder" in one_line(capsys)


def test_no_network_is_loaded(data):
    code = (
        "import sys, train; code = train.main(sys.argv[1:]); "
        "print([name for name in sys.modules if name in ('networks.lite_mono', 'trainer')]); sys.exit(code)"
    )
    argv = arguments(data, data / "runs", "--check_data", "--check_decode", "none")
    ended = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_line_before_whose_frame_there_is_none_is_named_so(data, capsys):
    lists = data / "splits" / "synthetic"
    folder = (lists / "train_files.txt").read_text().split()[0]
    (lists / "train_files.txt").write_text(f"{folder} 0 l\n{folder} 1 l\n")
    assert check(data) == 2
    said = capsys.readouterr()
    assert f"train line 1, '{folder} 0 l': no frame -1 beside frame 0" in said.out and "-00000" not in said.out
    assert "lines ask for frames that cannot exist; 1 neighbours; leave the line out" in said.err


def test_validation_on_training_lines_is_warned_of(data, capsys):
    lists = data / "splits" / "synthetic"
    shutil.copy(lists / "train_files.txt", lists / "val_files.txt")
    assert check(data) == 0
    assert "warning: 20 of 20 validation lines are in the training list too" in capsys.readouterr().out
