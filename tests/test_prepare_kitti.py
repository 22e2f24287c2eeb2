"""From a server with archives to a KITTI folder: only what is needed, and each step repeatable."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

import prepare_kitti
from datasets.preparation import kitti_drives
from datasets.splits import split_lines
from evaluation.ground_truth_file import load_ground_truth
from kitti_utils import SCANS
from tests import tiny_kitti
from tests.kitti_preparation import (
    ROOT,
    SERVED,
    STEPS,
    archive_names,
    complete,
    data_files,
    images,
    prepare,
    tree,
)
from tests.tiny_kitti import OTHER, TEST, TRAIN


def test_from_nothing_to_everything_that_is_needed_and_no_more(kitti_site, kitti_split, tmp_path, capsys):
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete()
    truth = load_ground_truth(str(kitti_split / "gt_depths.npz"), split_lines(str(kitti_split), "test"))
    assert len(truth) == 2 and truth[0].shape == (24, 64) and np.isclose(truth[1].max(), 13.0)
    said = capsys.readouterr()
    assert "3 drives wanted, 5 archives to download from 127.0.0.1" in said.out and "disk:" in said.out
    assert "verified 21 files" in said.out and said.err.count("error") == 0


def test_a_second_run_asks_for_nothing_and_changes_nothing(kitti_site, kitti_split, tmp_path):
    prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives")
    before = {
        path: os.stat(path).st_mtime_ns
        for path in (tmp_path / "kitti").rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    truth = os.stat(kitti_split / "gt_depths.npz").st_mtime_ns
    kitti_site.requests.clear()
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert kitti_site.requests == [] and os.stat(kitti_split / "gt_depths.npz").st_mtime_ns == truth
    assert before == {path: os.stat(path).st_mtime_ns for path in before}


def test_archives_and_pngs_stay_unless_told_otherwise(kitti_site, kitti_split, tmp_path):
    assert prepare(kitti_site, tmp_path) == 0
    assert len(archive_names(tmp_path)) == 5
    assert images(TEST, 2, (1,), "png")[0] in tree(tmp_path) and images(TEST, 2, (1,))[0] in tree(tmp_path)
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete()


def test_the_steps_can_be_run_one_by_one_and_each_twice(kitti_site, kitti_split, tmp_path):
    options = ["--delete_png", "--delete_archives"]
    for step in STEPS:
        for _ in range(2):
            assert prepare(kitti_site, tmp_path, "--steps", step, *options) == 0, step
        if step == "download":
            assert len(archive_names(tmp_path)) == 5 and data_files(tmp_path) == []
        if step == "unpack":
            assert archive_names(tmp_path) == [] and not any(name.endswith(".jpg") for name in tree(tmp_path))
    assert tree(tmp_path) == complete()


def test_png_stays_png_when_asked(kitti_site, kitti_split, tmp_path):
    assert prepare(kitti_site, tmp_path, "--png", "--delete_archives") == 0
    assert tree(tmp_path) == sorted(name.replace(".jpg", ".png") for name in complete())


def test_stereo_and_lidar_parts_widen_what_is_wanted(kitti_site, kitti_split, tmp_path):
    assert (
        prepare(
            kitti_site,
            tmp_path,
            "--use_stereo",
            "--lidar",
            "val",
            "--delete_png",
            "--steps",
            "download",
            "unpack",
            "convert",
            "verify",
        )
        == 0
    )
    found = tree(tmp_path)
    assert images(OTHER, 3, (1,))[0] in found and images(OTHER, 3, (0,))[0] not in found
    assert f"{OTHER}/velodyne_points/data/0000000001.bin" in found
    assert not any(name.startswith(f"{TEST}/velodyne") for name in found)


def test_an_unpacked_kitti_of_others_is_recognised(kitti_site, kitti_split, tmp_path):
    for data in SERVED.values():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(tmp_path / "kitti")
    assert prepare(kitti_site, tmp_path) == 0
    assert kitti_site.requests == [] and set(complete()) <= set(tree(tmp_path))
    assert not any(name.startswith("image_00") and name.endswith("jpg") for name in tree(tmp_path))


def test_a_complete_kitti_is_not_written_to(kitti_site, kitti_split, tmp_path):
    prepare(kitti_site, tmp_path, "--delete_png")
    (tmp_path / "kitti" / "archives" / ".lock").unlink()
    for path in (tmp_path / "kitti" / "archives").iterdir():
        path.unlink()
    (tmp_path / "kitti" / "archives").rmdir()
    before = sorted((tmp_path / "kitti").rglob("*"))
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert sorted((tmp_path / "kitti").rglob("*")) == before


def test_archives_put_there_by_hand_are_used(kitti_site, kitti_split, tmp_path):
    (tmp_path / "kitti" / "archives").mkdir(parents=True)
    for path, data in SERVED.items():
        (tmp_path / "kitti" / "archives" / Path(path).name).write_bytes(data)
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete() and kitti_site.requests == []


def test_unpacking_without_archives_says_where_to_put_them(kitti_site, kitti_split, tmp_path, capsys):
    assert prepare(kitti_site, tmp_path, "--steps", "unpack") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "5 archives are not here" in error and "archives/2011_09_26_calib.zip" in error


def test_the_published_splits_want_the_published_drives():
    drives, notes = kitti_drives.wanted_drives(["eigen_zhou", "eigen"])
    assert len(drives) == 60 and notes == []
    days = {drive.date for drive in drives.values()}
    assert days == {"2011_09_26", "2011_09_28", "2011_09_29", "2011_09_30", "2011_10_03"}
    scans = sum(len(drive.required.get(SCANS, ())) for drive in drives.values())
    assert scans == 697
    drive = drives["2011_09_30/2011_09_30_drive_0028_sync"]
    assert drive.archive == ("2011_09_30_drive_0028_sync.zip", "2011_09_30_drive_0028/2011_09_30_drive_0028_sync.zip")
    everything, notes = kitti_drives.wanted_drives(["eigen_zhou", "eigen_full", "benchmark", "eigen"])
    assert len(everything) == 61 and "benchmark" in notes[0]


def test_neighbours_beyond_a_drives_end_are_not_wanted(tmp_path):
    drive = kitti_drives.Drive(TRAIN)
    drive.need("image_02/data", (5,))
    drive.need("image_02/data", (4, 6), required=False)
    drive.need("image_02/data", (9,))
    drive.note_contents(str(tmp_path), [f"{TRAIN}/image_02/data/{frame:010d}.png" for frame in range(6)])
    assert drive.wanted(str(tmp_path)) == {"image_02/data": {4, 5, 9}}
    assert drive.missing(str(tmp_path)) == {"image_02/data": {4, 5, 9}}
    assert drive.fetchable(str(tmp_path)) == {"image_02/data": {4, 5}}


def test_improved_maps_come_from_an_archive_put_there_by_hand(kitti_site, tmp_path, capsys):
    folder = tiny_kitti.write_split(tmp_path / "eigen_benchmark")
    options = [
        "--data_path",
        str(tmp_path / "kitti"),
        "--split",
        str(folder),
        "--base_url",
        kitti_site.url,
        "--delete_png",
        "--num_workers",
        "1",
    ]
    assert prepare_kitti.main(options) == 2
    error = capsys.readouterr().err
    assert "data_depth_annotated.zip" in error and "cvlibs.net" in error and error.count("\n") == 1
    depth = io.BytesIO()
    Image.fromarray(np.full((24, 64), 10 * 256, np.uint16)).save(depth, "PNG")
    with zipfile.ZipFile(tmp_path / "kitti" / "archives" / "data_depth_annotated.zip", "w") as archive:
        for frame in range(4):
            name = f"{TEST.rpartition('/')[2]}/proj_depth/groundtruth/image_02/{frame:010d}.png"
            archive.writestr(f"val/{name}", depth.getvalue())
    assert prepare_kitti.main(options) == 0
    maps = [name for name in tree(tmp_path) if "proj_depth" in name]
    assert [name[-14:] for name in maps] == ["0000000001.png", "0000000003.png"]
    assert load_ground_truth(str(folder / "gt_depths.npz"))[0].max() == 10.0


def test_a_jpeg_that_others_left_half_written_is_made_again(kitti_site, kitti_split, tmp_path):
    prepare(kitti_site, tmp_path)
    jpeg = tmp_path / "kitti" / images(TRAIN, 2, (1,))[0]
    whole = jpeg.read_bytes()
    os.truncate(jpeg, 200)
    assert prepare(kitti_site, tmp_path, "--steps", "convert", "verify") == 0 and jpeg.read_bytes() == whole


def test_help_comes_without_torch():
    code = (
        "import sys, prepare_kitti\ntry:\n    prepare_kitti.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
