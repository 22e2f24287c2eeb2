"""What items hold beside images: labels and measured depth at their size, mirrored with them, and distances driven."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import train
from datasets import KITTIRAWDataset
from datasets.cache import FrameCache
from datasets.known_motion import KnownMotion
from datasets.labels import MeasuredDepth, PseudoLabels, gathered, read_label, relative_stem, to_size
from system.errors import UserError
from tests.conftest import ROOT
from tests.short_runs import one_line

SIZE = 32, 64
DRIVE = "2000_01_01/2000_01_01_drive_0001_sync"


def lines_of(data):
    return (data / "splits" / "synthetic" / "train_files.txt").read_text().split("\n")[:6]


def make(data, **options):
    return KITTIRAWDataset(data, lines_of(data), *SIZE, (0, -1, 1), 1, **options)


@pytest.fixture
def labels(synthetic_drive, tmp_path):
    """A folder of labels for all training frames: columns 1, 2, ... twice as large as the items."""
    ramp = np.tile(np.arange(1, 1 + 2 * SIZE[1], dtype=np.float32), (2 * SIZE[0], 1))
    folder = tmp_path / "labels"
    lines = (synthetic_drive / "splits" / "synthetic" / "train_files.txt").read_text().split("\n")
    data = KITTIRAWDataset(synthetic_drive, [line for line in lines if line], *SIZE, (0,), 1)
    for index in range(len(data)):
        path = folder / f"{relative_stem(data, *data.frame_of(index, 0))}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, ramp)
    return folder


# --- pseudo-labels ---------------------------------------------------------------------------------------------------


def test_labels_come_at_the_items_size_and_turn_with_them(synthetic_drive, labels):
    data = make(synthetic_drive, is_train=True)
    data.extras = (PseudoLabels(labels),)
    flips = set()
    for epoch in range(3):
        for index in range(len(data)):
            flip, item = data.draw(epoch, index)[0], data[epoch, index]
            row = torch.arange(SIZE[1]) * 2.0 + 2
            assert torch.equal(item["pseudo_label"], (row.flip(0) if flip else row).expand(1, *SIZE))
            assert item["pseudo_confidence"].eq(1).all()
            flips.add(flip)
    assert flips == {False, True}


@pytest.mark.parametrize("on_device", [False, True])
def test_a_cache_changes_no_label(synthetic_drive, labels, tmp_path, on_device):
    plain, cached = (make(synthetic_drive, is_train=True, on_device=on_device) for _ in range(2))
    plain.extras = cached.extras = (PseudoLabels(labels), MeasuredDepth(), KnownMotion())
    FrameCache.open(str(tmp_path / "cache"), cached, quiet=True)
    for index in range(len(plain)):
        one, other = plain[1, index], cached[1, index]
        assert one.keys() == other.keys() >= {"pseudo_label", "pseudo_confidence", "measured_depth", "distance"}
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_items_without_extras_are_as_they_were(synthetic_drive, labels):
    plain, more = make(synthetic_drive, is_train=True), make(synthetic_drive, is_train=True)
    more.extras = (PseudoLabels(labels),)
    for index in range(len(plain)):
        one, other = plain[0, index], more[0, index]
        assert not {"pseudo_label", "measured_depth", "distance"} & one.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_every_form_of_a_label_says_the_same(tmp_path):
    depth = np.array([[0, 1.5], [2.25, 100]], np.float32)
    Image.fromarray((depth * 256).astype(np.uint16)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", depth.astype(np.float16))
    np.savez(tmp_path / "a.npz", depth=depth)
    for ending in (".png", ".npy", ".npz"):
        label, confidence = read_label(str(tmp_path / f"a{ending}"))
        assert np.array_equal(label, depth) and np.array_equal(confidence, depth > 0)
        assert label.dtype == confidence.dtype == np.float32
    np.savez(tmp_path / "b.npz", depth=depth, confidence=np.full((2, 2), 0.5))
    assert np.array_equal(read_label(str(tmp_path / "b.npz"))[1], 0.5 * (depth > 0))


@pytest.mark.parametrize("values, what", [
    (np.full((2, 2), np.nan), "a label that is not finite"),
    (np.full((2, 2), -1.0), "a label out of range"),
    (np.ones((2, 2, 3)), "not a label"),
    (np.array([["a"]]), "not a label"),
    (np.ones((0, 4)), "not a label"),
])  # fmt: skip
def test_impossible_labels_are_refused(tmp_path, values, what):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=what):
        read_label(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("name, content", [("a.npy", b"no array"), ("a.npz", b"PK no zip"), ("a.png", b"no image")])
def test_damaged_labels_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError):
        read_label(str(tmp_path / name))


def test_a_confidence_of_another_size_or_above_one_is_refused(tmp_path):
    for confidence in (np.ones((2, 3)), np.full((2, 2), 1.5)):
        np.savez(tmp_path / "a.npz", depth=np.ones((2, 2)), confidence=confidence)
        with pytest.raises(UserError):
            read_label(str(tmp_path / "a.npz"))


def test_of_sparse_depth_each_cell_keeps_its_nearest_point():
    rng = np.random.default_rng(3)
    depth = np.where(rng.random((37, 53)) < 0.2, rng.uniform(1, 50, (37, 53)), 0).astype(np.float32)
    expected = np.zeros((9, 20), np.float32)
    for row in range(37):
        for column in range(53):
            if depth[row, column]:
                y, x = row * 9 // 37, column * 20 // 53
                expected[y, x] = min(depth[row, column], expected[y, x] or np.inf)
    assert np.array_equal(gathered(depth, 9, 20), expected)
    confidence = rng.uniform(0.1, 1, depth.shape).astype(np.float32) * (depth > 0)
    small, sure = to_size(depth, confidence, 9, 20)
    assert np.array_equal(small, expected)
    assert all(sure[y, x] == confidence[depth == small[y, x]] for y, x in zip(*np.nonzero(small), strict=True))
    disparity = np.where(depth > 0, 1 / np.where(depth > 0, depth, 1), 0).astype(np.float32)
    inverse, _ = to_size(disparity, confidence, 9, 20, nearest_is_large=True)
    assert np.allclose(inverse[small > 0], 1 / small[small > 0]) and not inverse[small == 0].any()


def test_missing_labels_are_unknown_everywhere(synthetic_drive, labels):
    data = make(synthetic_drive)
    data.extras = (PseudoLabels(labels),)
    path = data.extras[0].path(data, 2)
    (labels / path).unlink()
    assert not data[2]["pseudo_label"].any() and not data[2]["pseudo_confidence"].any()
    assert data[1]["pseudo_label"].all()
    assert data.extras[0].check(data) == len(data) - 1


# --- depth of the data itself ----------------------------------------------------------------------------------------


def test_measured_depth_is_that_of_the_scan_mirrored_with_the_item(synthetic_drive):
    data = make(synthetic_drive, is_train=True)
    data.extras = (MeasuredDepth(),)
    for index in range(len(data)):
        flip, depth = data.draw(0, index)[0], data[0, index]["measured_depth"]
        expected = torch.from_numpy(gathered(data.load_depth(data.lines[index]), *SIZE))
        assert torch.equal(depth[0], expected.flip(1) if flip else expected)
        assert 0.05 < (depth > 0).float().mean() <= 1


# --- distances -------------------------------------------------------------------------------------------------------


@pytest.fixture
def drive(tmp_path):
    """A data path with an empty drive, and a data set of its frames 0 to 3."""
    (tmp_path / DRIVE).mkdir(parents=True)
    lines = [f"{DRIVE} {number} l" for number in range(4)]
    return tmp_path / DRIVE, KITTIRAWDataset(tmp_path, lines, *SIZE, (0, -1, 1), 1)


def distances(data):
    known = KnownMotion()
    return [known(data, index, False)["distance"].tolist() for index in range(len(data))]


def test_distances_from_poses(drive):
    folder, data = drive
    places = [(0, 0), (0, 1), (0.6, 1.8), (0.6, 4.8)]
    text = "".join(f"1 0 0 {x} 0 1 0 0 0 0 1 {z}\n" for x, z in places)
    (folder / "poses.txt").write_text(text)
    np.testing.assert_allclose(distances(data), [[0, 1], [1, 1], [1, 3], [3, 0]], atol=1e-6)


def write_oxts(folder, speeds):
    (folder / "oxts" / "data").mkdir(parents=True)
    for number, speed in enumerate(speeds):
        if speed is not None:
            words = ["0"] * 8 + [str(speed)] + ["0"] * 21
            (folder / "oxts" / "data" / f"{number:010d}.txt").write_text(" ".join(words))


def test_distances_from_oxts_with_and_without_times(drive):
    folder, data = drive
    write_oxts(folder, [10, 12, None, 8])
    np.testing.assert_allclose(distances(data), [[0, 1.1], [1.1, 0], [0, 0], [0, 0]], atol=1e-6)
    times = [f"2011-09-26 13:02:25.{each}00000000" for each in (0, 2, 3, 5)]
    (folder / "oxts" / "timestamps.txt").write_text("\n".join(times))
    np.testing.assert_allclose(distances(data), [[0, 2.2], [2.2, 0], [0, 0], [0, 0]], atol=1e-6)


def test_distances_from_a_text_of_speeds(drive):
    folder, data = drive
    (folder / "speed.txt").write_text("0.0 10\n0.5 12\n0.6 -2\n")
    np.testing.assert_allclose(distances(data), [[0, 5.5], [5.5, 0.5], [0.5, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("text", ["0 1\n0 1\n", "0 1 2\n", "a b\n", "0 nan\n", "\xff\n"])
def test_a_text_that_is_no_speeds_is_refused(drive, text):
    folder, data = drive
    (folder / "speed.txt").write_text(text, encoding="latin-1")
    with pytest.raises(UserError):
        distances(data)


def test_damaged_oxts_are_refused(drive):
    folder, data = drive
    write_oxts(folder, [10, 12])
    (folder / "oxts" / "data" / "0000000001.txt").write_text("1 2 3\n")
    with pytest.raises(UserError, match="oxts"):
        distances(data)


def test_a_drive_that_says_nothing_has_no_distance(drive):
    _, data = drive
    assert distances(data) == [[0, 0]] * 4
    with pytest.raises(UserError, match="no drive says"):
        KnownMotion().check(data)


# --- as commands -----------------------------------------------------------------------------------------------------


def spoil(labels, how):
    paths = sorted(labels.rglob("*.npy"))
    for path in paths:
        if how == "zero":
            np.save(path, np.zeros((4, 4), np.float32))
        elif how == "nan":
            np.save(path, np.full((4, 4), np.nan, np.float32))
        elif how == "missing":
            path.unlink()
        elif how == "text":
            path.write_text("no array")


@pytest.mark.parametrize("how, says", [
    ("zero", "the labels are zero everywhere"), ("nan", "a label that is not finite"),
    ("missing", "none of the training images has a label"), ("text", "a damaged label"),
])  # fmt: skip
def test_bad_labels_are_one_line_before_training_begins(short_run, labels, tmp_path, capsys, how, says):
    spoil(labels, how)
    assert train.main(short_run("--pseudo_depth", labels)) == 2
    assert says in one_line(capsys) and not (tmp_path / "runs" / "run" / "models").exists()


def test_bad_labels_end_the_process(short_run, labels):
    spoil(labels, "text")
    command = [sys.executable, "train.py", *short_run("--pseudo_depth", labels)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "a damaged label" in errors[0] and "Traceback" not in ended.stderr


@pytest.mark.parametrize("words, says", [
    (("--pseudo_depth", "nowhere"), "no such folder of labels"),
    (("--pseudo_weight", "-1"), "--pseudo_weight"), (("--speed_weight", "nan"), "--speed_weight"),
    (("--ema", "1"), "--ema"), (("--pseudo_ramp", "0"), "--pseudo_ramp"),
    (("--depth_supervision", "1", "--dataset", "kitti_odom"), "--depth_supervision"),
    (("--speed_weight", "0.1"), "PoseCNN"),
])  # fmt: skip
def test_options_that_cannot_be_are_one_line(short_run, capsys, words, says):
    assert train.main(short_run(*words)) == 2
    assert says in one_line(capsys)


def test_labels_of_another_size_missing_here_and_there_train(short_run, labels, tmp_path):
    for path in sorted(labels.rglob("*.npy"))[::2]:
        path.unlink()
    words = ("--pseudo_depth", labels, "--depth_supervision", 0.1, "--speed_weight", 0.1, "--max_steps", 2)
    words += ("--pose_model_type", "shared")
    for more in ((), ("--pseudo_kind", "affine", "--pseudo_schedule", "warmup"), ("--cache", "ram")):
        assert train.main(short_run(*words, *more)) == 0
