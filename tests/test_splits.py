"""The published splits are materialised exactly; folders of one's own work; malformed lines are named."""

import os

import pytest

from datasets import splits
from system.errors import UserError

CHECKED = [(name, part) for name in splits.published_names() for part in splits.resolve_split(name).parts()]


@pytest.mark.parametrize(("name", "part"), CHECKED)
def test_published_split_has_its_count_and_checksum(name, part):
    entry = splits._table()[name][part]
    lines = splits.split_lines(name, part)
    assert len(lines) == entry["count"] == len(set(lines))
    if "sha256" in entry:
        assert splits.checksum(lines) == entry["sha256"]


def test_every_published_split_is_there():
    expected = dict.fromkeys(("eigen_zhou", "eigen_full", "odom"), "train val") | {"benchmark": "train val test"}
    expected |= dict.fromkeys(("eigen", "eigen_benchmark", "odom_9", "odom_10"), "test")
    assert {name: " ".join(splits.resolve_split(name).parts()) for name in splits.published_names()} == expected


def test_eigen_keeps_the_published_order():
    lines = splits.split_lines("eigen", "test")
    assert lines[0] == "2011_09_26/2011_09_26_drive_0002_sync 0000000069 l"
    assert lines[1] == "2011_09_26/2011_09_26_drive_0002_sync 0000000054 l"
    assert lines[-1] == "2011_10_03/2011_10_03_drive_0047_sync 0000000768 l"
    left_out = [line for line in lines if line not in set(splits.split_lines("eigen_benchmark", "test"))]
    assert len(left_out) == 45 and left_out[0] == lines[7]


def test_training_and_validation_are_disjoint():
    for name in ("eigen_zhou", "eigen_full", "odom", "benchmark"):
        assert not set(splits.split_lines(name, "train")) & set(splits.split_lines(name, "val"))


def test_odometry_and_benchmark_tests():
    assert splits.split_lines("odom_9", "test")[:2] == ["9 0 l", "9 1 l"]
    assert splits.split_lines("odom_10", "test")[-1] == "10 1199 l"
    assert splits.split_lines("benchmark", "test")[-1] == "image 499"


def test_frame_ranges():
    assert splits.frames("7,1-3,10") == [7, 1, 2, 3, 10]


def test_parse_line():
    assert splits.parse_line("2011_09_26/d 0000000007 r\n") == ("2011_09_26/d", 7, "r")
    assert splits.parse_line("9 12 2") == ("9", 12, "l")


@pytest.mark.parametrize("text", ["", "a 1", "a x l", "a -1 l", "a 1 m", "a 1 l more", "a 1.0 l", "a ² l"])
def test_malformed_line_is_named(text):
    with pytest.raises(UserError, match="here line 3"):
        splits.parse_line(text, "here line 3")


def own_split(folder, part, text):
    folder.mkdir(exist_ok=True)
    (folder / f"{part}_files.txt").write_text(text, encoding="utf-8")
    return folder


def test_folder_is_a_split(tmp_path):
    folder = own_split(tmp_path / "mine", "train", "\ufeffa 1 l\r\n\r\na  2\tr\r\n")
    split = splits.resolve_split(folder)
    assert (split.name, split.folder, split.parts()) == ("mine", str(folder), ("train",))
    assert split.lines("train") == ["a 1 l", "a 2 r"]
    assert split.where("train") == f"{folder / 'train_files.txt'} line"


def test_name_below_the_splits_folder_is_a_split(tmp_path, monkeypatch):
    own_split(tmp_path / "mine", "test", "a 1 l\n")
    monkeypatch.setattr(splits, "SPLITS_DIR", str(tmp_path))
    assert splits.split_lines("mine", "test") == ["a 1 l"]


def test_relative_folder_gets_its_real_name(tmp_path, monkeypatch):
    own_split(tmp_path / "mine", "test", "a 1 l\n")
    monkeypatch.chdir(tmp_path / "mine")
    assert splits.resolve_split(".").name == "mine"


def test_malformed_line_of_a_file_is_named_with_its_number(tmp_path):
    folder = own_split(tmp_path / "mine", "val", "a 1 l\n\na 2\n")
    with pytest.raises(UserError, match=r"val_files.txt line 3: 'a 2'"):
        splits.split_lines(folder, "val")


def test_mistakes_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="unknown split; eigen_zoo; .*eigen_zhou"):
        splits.resolve_split("eigen_zoo")
    with pytest.raises(UserError, match="no test list; eigen_zhou; choose one of benchmark, eigen,"):
        splits.split_lines("eigen_zhou", "test")
    with pytest.raises(UserError, match="folder without lists"):
        splits.resolve_split(tmp_path)
    folder = own_split(tmp_path / "mine", "train", "\n")
    with pytest.raises(UserError, match="empty split file"):
        splits.split_lines(folder, "train")
    with pytest.raises(UserError, match="missing split file"):
        splits.split_lines(folder, "val")
    (folder / "train_files.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        splits.split_lines(folder, "train")


@pytest.mark.parametrize(
    "text, words",
    [
        ("drive " + "7" * 5000 + " l", "a frame number of 5000 digits"),
        ("dri\0ve 7 l", "unprintable characters"),
        ("drive \0 l", "malformed split line"),
    ],
)
def test_lines_that_could_name_no_file_are_refused_where_they_stand(tmp_path, text, words):
    (tmp_path / "train_files.txt").write_text(f"drive 1 l\n{text}\n")
    with pytest.raises(UserError, match=words) as caught:
        splits.resolve_split(tmp_path).lines("train")
    assert "train_files.txt line 2" in str(caught.value) and "\0" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_pipe_is_no_list(tmp_path):
    os.mkfifo(tmp_path / "train_files.txt")
    with pytest.raises(UserError, match="not a regular file"):
        splits.resolve_split(tmp_path).lines("train")


def test_validation_lines_that_are_trained_on_are_counted(tmp_path):
    (tmp_path / "train_files.txt").write_text("drive 1 l\ndrive 2 2\n")
    (tmp_path / "val_files.txt").write_text("drive 2 l\ndrive 3 l\n")
    assert splits.shared_notice(splits.resolve_split(tmp_path)).startswith("1 of 2 validation lines")
    (tmp_path / "val_files.txt").write_text("drive 2 r\n")
    assert splits.shared_notice(splits.resolve_split(tmp_path)) is None
