"""From a server with archives to a KITTI folder: only what is needed, each step repeatable, broken off anywhere."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare_kitti
from datasets.preparation import convert, kitti_drives, verification
from datasets.splits import split_lines
from evaluation.ground_truth_file import load_ground_truth
from fetching import archives, downloads
from kitti_utils import CALIBRATION, SCANS
from system import files
from tests import tiny_kitti
from tests.http_site import Site
from tests.tiny_kitti import OTHER, TEST, TRAIN

ROOT = Path(__file__).resolve().parent.parent
STEPS = prepare_kitti.STEPS
SERVED = tiny_kitti.server_files()
TRAIN_ZIP, TEST_ZIP = "2011_09_26_drive_0001_sync.zip", "2011_09_26_drive_0002_sync.zip"
TRAIN_PATH = f"/2011_09_26_drive_0001/{TRAIN_ZIP}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site():
    with Site(SERVED) as running:
        yield running


@pytest.fixture
def split(tmp_path):
    return tiny_kitti.write_split(tmp_path / "mini")


def arguments(site, tmp_path, *more):
    return [
        "--data_path",
        str(tmp_path / "kitti"),
        "--split",
        str(tmp_path / "mini"),
        "--base_url",
        site.url,
        "--retries",
        "2",
        "--num_workers",
        "1",
        *more,
    ]


def prepare(site, tmp_path, *more):
    return prepare_kitti.main(arguments(site, tmp_path, *more))


def tree(tmp_path):
    """Every visible file below the KITTI folder."""
    top = tmp_path / "kitti"
    return sorted(
        str(path.relative_to(top))
        for path in top.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(top).parts)
    )


def images(folder, camera, frames, ending="jpg"):
    return [f"{folder}/image_0{camera}/data/{frame:010d}.{ending}" for frame in frames]


def complete():
    """What the split needs: own frames, neighbours as far as the drive goes, scans of the test frames."""
    return sorted(
        images(TRAIN, 2, (0, 1, 2, 3, 4, 5))
        + images(TRAIN, 3, (0, 1, 2, 3, 4, 5))
        + images(OTHER, 2, (0, 1, 2))
        + images(TEST, 2, (1, 3))
        + [f"{TEST}/velodyne_points/data/{frame:010d}.bin" for frame in (1, 3)]
        + [f"{date}/{name}" for date in ("2011_09_26", "2011_09_28") for name in CALIBRATION]
    )


def archive_names(tmp_path):
    return [name for name in tree(tmp_path) if name.startswith("archives/")]


def data_files(tmp_path):
    return [name for name in tree(tmp_path) if not name.startswith("archives/")]


def test_from_nothing_to_everything_that_is_needed_and_no_more(site, split, tmp_path, capsys):
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete()
    truth = load_ground_truth(str(split / "gt_depths.npz"), split_lines(str(split), "test"))
    assert len(truth) == 2 and truth[0].shape == (24, 64) and np.isclose(truth[1].max(), 13.0)
    said = capsys.readouterr()
    assert "3 drives wanted, 5 archives to download from 127.0.0.1" in said.out and "disk:" in said.out
    assert "verified 21 files" in said.out and said.err.count("error") == 0


def test_a_second_run_asks_for_nothing_and_changes_nothing(site, split, tmp_path):
    prepare(site, tmp_path, "--delete_png", "--delete_archives")
    before = {
        path: os.stat(path).st_mtime_ns
        for path in (tmp_path / "kitti").rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    truth = os.stat(split / "gt_depths.npz").st_mtime_ns
    site.requests.clear()
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert site.requests == [] and os.stat(split / "gt_depths.npz").st_mtime_ns == truth
    assert before == {path: os.stat(path).st_mtime_ns for path in before}


def test_archives_and_pngs_stay_unless_told_otherwise(site, split, tmp_path):
    assert prepare(site, tmp_path) == 0
    assert len(archive_names(tmp_path)) == 5
    assert images(TEST, 2, (1,), "png")[0] in tree(tmp_path) and images(TEST, 2, (1,))[0] in tree(tmp_path)
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete()


def test_the_steps_can_be_run_one_by_one_and_each_twice(site, split, tmp_path):
    options = ["--delete_png", "--delete_archives"]
    for step in STEPS:
        for _ in range(2):
            assert prepare(site, tmp_path, "--steps", step, *options) == 0, step
        if step == "download":
            assert len(archive_names(tmp_path)) == 5 and data_files(tmp_path) == []
        if step == "unpack":
            assert archive_names(tmp_path) == [] and not any(name.endswith(".jpg") for name in tree(tmp_path))
    assert tree(tmp_path) == complete()


def test_png_stays_png_when_asked(site, split, tmp_path):
    assert prepare(site, tmp_path, "--png", "--delete_archives") == 0
    assert tree(tmp_path) == sorted(name.replace(".jpg", ".png") for name in complete())


def test_stereo_and_lidar_parts_widen_what_is_wanted(site, split, tmp_path):
    assert (
        prepare(
            site,
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


def test_an_unpacked_kitti_of_others_is_recognised(site, split, tmp_path):
    for data in SERVED.values():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(tmp_path / "kitti")
    assert prepare(site, tmp_path) == 0
    assert site.requests == [] and set(complete()) <= set(tree(tmp_path))
    assert not any(name.startswith("image_00") and name.endswith("jpg") for name in tree(tmp_path))


def test_a_complete_kitti_is_not_written_to(site, split, tmp_path):
    prepare(site, tmp_path, "--delete_png")
    (tmp_path / "kitti" / "archives" / ".lock").unlink()
    for path in (tmp_path / "kitti" / "archives").iterdir():
        path.unlink()
    (tmp_path / "kitti" / "archives").rmdir()
    before = sorted((tmp_path / "kitti").rglob("*"))
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert sorted((tmp_path / "kitti").rglob("*")) == before


def test_archives_put_there_by_hand_are_used(site, split, tmp_path):
    (tmp_path / "kitti" / "archives").mkdir(parents=True)
    for path, data in SERVED.items():
        (tmp_path / "kitti" / "archives" / Path(path).name).write_bytes(data)
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete() and site.requests == []


def test_unpacking_without_archives_says_where_to_put_them(site, split, tmp_path, capsys):
    assert prepare(site, tmp_path, "--steps", "unpack") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "5 archives are not here" in error and "archives/2011_09_26_calib.zip" in error


def test_a_cut_connection_is_resumed(site, split, tmp_path):
    site.cut_after = [100, 200]
    assert prepare(site, tmp_path, "--steps", "download", "--parallel", "1") == 0
    assert any(span for _, _, span in site.requests)
    assert (tmp_path / "kitti" / "archives" / TRAIN_ZIP).read_bytes() == SERVED[TRAIN_PATH]


def test_a_missing_archive_is_named_while_the_others_arrive(site, split, tmp_path, capsys):
    del site.files[TRAIN_PATH]
    assert prepare(site, tmp_path, "--delete_png", "--steps", "download", "unpack", "convert") == 2
    error = capsys.readouterr().err
    assert "404" in error and TRAIN_ZIP in error and error.count("\n") == 1
    assert set(data_files(tmp_path)) == {name for name in complete() if not name.startswith(TRAIN)}
    site.files[TRAIN_PATH] = SERVED[TRAIN_PATH]
    assert prepare(site, tmp_path, "--delete_png") == 0 and data_files(tmp_path) == complete()


def test_a_damaged_archive_is_removed_and_fetched_again_next_time(site, split, tmp_path, capsys):
    good = SERVED[TRAIN_PATH]
    middle = good.index(b"image_02/data/0000000003.png") + 200
    site.files[TRAIN_PATH] = good[:middle] + bytes(50) + good[middle + 50 :]
    assert prepare(site, tmp_path, "--steps", "download", "unpack") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the archive is damaged") and TRAIN_ZIP in error and error.count("\n") == 1
    assert f"archives/{TRAIN_ZIP}" not in tree(tmp_path)
    assert not any("0000000003.png" in name and name.startswith(f"{TRAIN}/image_02") for name in tree(tmp_path))
    site.files[TRAIN_PATH] = good
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0 and tree(tmp_path) == complete()


@pytest.mark.parametrize("data", [b"", b"<html>sorry</html>", SERVED[TRAIN_PATH][:5000]])
def test_what_is_no_archive_is_removed(site, split, tmp_path, capsys, data):
    site.files[TRAIN_PATH] = data
    assert prepare(site, tmp_path, "--steps", "download", "unpack") == 2
    error = capsys.readouterr().err
    assert "damaged" in error and error.count("\n") == 1 and f"archives/{TRAIN_ZIP}" not in tree(tmp_path)


def hostile(name, **settings):
    buffer = io.BytesIO(SERVED[TRAIN_PATH])
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo(name)
        for key, value in settings.items():
            setattr(info, key, value)
        archive.writestr(info, b"../../../etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_hostile_paths_are_refused_before_anything_is_unpacked(site, split, tmp_path, capsys, name):
    site.files[TRAIN_PATH] = hostile(name)
    assert prepare(site, tmp_path, "--steps", "download", "unpack") == 2
    error = capsys.readouterr().err
    assert "evil.txt" in error and TRAIN_ZIP in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("evil.txt")) and not (tmp_path / "kitti" / TRAIN).exists()


def test_links_in_an_archive_are_refused(site, split, tmp_path, capsys):
    site.files[TRAIN_PATH] = hostile(f"{TRAIN}/image_02/data/0000000009.png", external_attr=0o120777 << 16)
    assert prepare(site, tmp_path, "--steps", "download", "unpack") == 2
    assert "is a link" in capsys.readouterr().err


def test_a_member_larger_than_allowed_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(SERVED[TRAIN_PATH])
    with pytest.raises(archives.UserError, match="would unpack to"):
        archives.unpack(str(tmp_path / "a.zip"), {images(TRAIN, 2, (1,), "png")[0]: str(tmp_path / "x")}, largest=10)
    assert not (tmp_path / "x").exists()


def test_a_wrong_size_is_told(site, split, tmp_path, capsys):
    site.states[TRAIN_PATH] = []
    described = downloads.download.describe

    def smaller(url, **options):
        remote = described(url, **options)
        return remote._replace(size=remote.size - 1) if url.endswith(TRAIN_ZIP) else remote

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads.download, "describe", smaller)
        assert prepare(site, tmp_path, "--steps", "download") == 2
    error = capsys.readouterr().err
    assert "the server offers" in error and f"archives/{TRAIN_ZIP}" not in tree(tmp_path)


def test_a_disk_too_small_is_told_before_anything_is_fetched(site, split, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 1000)
    assert prepare(site, tmp_path) == 2
    said = capsys.readouterr()
    assert "not enough disk space" in said.err and "1.0 kB free" in said.err and "free in" in said.out
    assert tree(tmp_path) == [] and all(method == "HEAD" for method, _, _ in site.requests)


@pytest.mark.parametrize("step", ["unpack", "convert"])
def test_a_disk_that_fills_up_leaves_only_whole_files(site, split, tmp_path, capsys, monkeypatch, step):
    assert prepare(site, tmp_path, "--steps", *STEPS[: STEPS.index(step)]) == 0
    calls, fsync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        assert prepare(site, tmp_path, "--steps", step) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and "disk is full" in error[0]
    for path in (tmp_path / "kitti").rglob("*"):
        assert not files.is_partial(path.name)
        assert not (path.is_file() and path.suffix and verification.fault(str(path)))
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0 and tree(tmp_path) == complete()


def test_an_incomplete_list_is_named_file_by_file(site, split, tmp_path, capsys):
    prepare(site, tmp_path, "--delete_png", "--delete_archives", "--lidar", "test")
    (split / "val_files.txt").write_text("".join(f"{OTHER} {frame} l\n" for frame in range(100, 130)))
    gone, cut = images(TRAIN, 2, (1,))[0], images(TRAIN, 3, (2,))[0]
    (tmp_path / "kitti" / gone).unlink()
    os.truncate(tmp_path / "kitti" / cut, 300)
    os.truncate(tmp_path / "kitti" / TEST / "velodyne_points/data/0000000001.bin", 100)
    capsys.readouterr()
    assert prepare(site, tmp_path, "--steps", "verify") == 2
    said = capsys.readouterr()
    assert f"missing: {gone}\n" in said.out and f"cut short: {cut}\n" in said.out
    assert "cut short: " + TEST + "/velodyne_points/data/0000000001.bin" in said.out
    named = said.out.splitlines()
    assert len(named) == 21 and named[-1] == "... and 13 more"
    assert said.err.startswith("error: 33 of ") and said.err.count("\n") == 1


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


@pytest.mark.parametrize(
    "more, words",
    [
        (["--split", "odom"], "not made of KITTI raw"),
        (["--split", "no_such_split"], "unknown split"),
        (["--steps", "dance"], "invalid choice"),
        (["--png", "--delete_png"], "contradictory"),
        (["--parallel", "0"], "parallel"),
        (["--base_url", "nonsense"], "not a web address"),
        (["--base_url", "http://127.0.0.1:9/with a space"], "has no spaces"),
        (["--retries", "-3"], "not a whole number of at least 1"),
        (["--data_path", "a/" * 1500], "a path more than 200 folders deep"),
    ],
)
def test_user_mistakes_are_one_line(site, split, tmp_path, capsys, more, words):
    assert prepare(site, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1


def test_without_a_network_the_cause_comes_first_and_is_the_only_error(split, tmp_path, capsys):
    with Site({}) as site:
        closed = site.url
    began = time.monotonic()
    paths = ["--data_path", str(tmp_path / "kitti"), "--split", str(split)]
    assert prepare_kitti.main([*paths, "--base_url", closed]) == 2
    said = capsys.readouterr()
    first, second = said.out.splitlines()[:2]
    assert "5 archives to download from 127.0.0.1" in first and "sizes cannot be asked: no connection to 127" in second
    assert "no connection to 127.0.0.1" in said.err and "5 archives cannot be fetched" in said.err
    assert said.err.count("\n") == 1 and "missing" not in said.out and time.monotonic() - began < 30


def test_archives_that_are_here_are_unpacked_without_a_network(split, tmp_path, capsys):
    with Site({}) as site:
        closed = site.url
    (tmp_path / "kitti" / "archives").mkdir(parents=True)
    (tmp_path / "kitti" / "archives" / TRAIN_ZIP).write_bytes(SERVED[TRAIN_PATH])
    paths = ["--data_path", str(tmp_path / "kitti"), "--split", str(split)]
    assert prepare_kitti.main([*paths, "--base_url", closed]) == 2
    assert "no connection" in capsys.readouterr().err and images(TRAIN, 2, (1,))[0] in tree(tmp_path)


def test_a_server_without_any_of_the_archives_is_one_line(site, split, tmp_path, capsys):
    site.files.clear()
    assert prepare(site, tmp_path) == 2
    said = capsys.readouterr()
    assert "none of the 5 archives is to be had: the server answers 404" in said.err and said.err.count("\n") == 1
    assert "missing:" not in said.out


def test_a_calibration_archive_without_calibration_is_told_so(site, split, tmp_path, capsys):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("2011_09_26/calib_cam_to_cam.txt", tiny_kitti.CAMERA)
    site.files["/2011_09_26_calib.zip"] = buffer.getvalue()
    assert prepare(site, tmp_path, "--steps", "download", "unpack") == 2
    error = capsys.readouterr().err
    assert "no member 2011_09_26/calib_velo_to_cam.txt" in error and "not KITTI's archive of that day" in error


def test_frames_that_kitti_does_not_have_are_told_apart_from_missing_ones(site, split, tmp_path, capsys):
    (split / "val_files.txt").write_text(f"{OTHER} 100 l\n")
    assert prepare(site, tmp_path) == 2
    said = capsys.readouterr()
    assert f"not in the drive's archive: {images(OTHER, 2, (100,))[0]}" in said.out
    assert "leave lines out of the split" in said.err and "delete" not in said.err and "again" not in said.err


def test_advice_against_a_small_disk_names_only_what_is_not_given(site, split, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 1000)
    assert prepare(site, tmp_path, "--delete_png", "--parallel", "1") == 2
    error = capsys.readouterr().err
    assert "add --delete_archives" in error and "--delete_png" not in error and "--parallel" not in error


def test_a_data_path_that_is_a_file_is_one_line(site, split, tmp_path, capsys):
    (tmp_path / "kitti").write_text("")
    assert prepare(site, tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_improved_maps_come_from_an_archive_put_there_by_hand(site, tmp_path, capsys):
    folder = tiny_kitti.write_split(tmp_path / "eigen_benchmark")
    options = [
        "--data_path",
        str(tmp_path / "kitti"),
        "--split",
        str(folder),
        "--base_url",
        site.url,
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


# --- conversion ----------------------------------------------------------------------------------------------------

# Annex K of the JPEG standard (ITU T.81), scaled for quality 92 as libjpeg does: (base * 16 + 50) / 100.
LUMINANCE = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMINANCE = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""


def test_the_jpeg_has_the_published_tables_and_subsampling(tmp_path):
    (tmp_path / "a.png").write_bytes(tiny_kitti.png(3, 2))
    with Image.open(convert.png_to_jpeg(str(tmp_path / "a.png"))) as image:
        for number, base in enumerate((LUMINANCE, CHROMINANCE)):
            assert sorted(image.quantization[number]) == sorted((int(q) * 16 + 50) // 100 for q in base.split())
        assert [(h, v) for _, h, v, _ in image.layer] == [(2, 2), (1, 1), (1, 1)]
        assert not image.info.get("progressive")
    assert not (tmp_path / "a.png").exists()


def imagemagick():
    for name in ("/usr/bin/convert", "/usr/local/bin/convert", "/opt/homebrew/bin/convert"):
        if os.path.exists(name):
            version = subprocess.run([name, "-version"], capture_output=True, text=True)
            if "ImageMagick" in version.stdout:
                return name
    return pytest.skip("ImageMagick's convert is not installed")


@pytest.fixture
def street_pngs(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(8):
        coarse = Image.fromarray(rng.integers(0, 255, (24, 78, 3), dtype=np.uint8))
        coarse.resize((1242, 375), Image.Resampling.BICUBIC).save(tmp_path / f"{number:010d}.png")
    return [str(tmp_path / f"{number:010d}.png") for number in range(8)]


def test_the_jpeg_is_that_of_imagemagick_and_costs_less(street_pngs):
    command, before = imagemagick(), os.times()
    for png in street_pngs:
        how = ["-quality", "92", "-sampling-factor", "2x2,1x1,1x1"]
        subprocess.run([command, png, *how, f"{png[:-4]}_im.jpg"], check=True)
    between = os.times()
    convert.convert_all(street_pngs, keep_png=True, workers=1)
    after = os.times()
    for png in street_pngs[:4]:
        with Image.open(png[:-4] + ".jpg") as mine, Image.open(png[:-4] + "_im.jpg") as published:
            assert mine.quantization == published.quantization and mine.layer == published.layer
            assert np.array_equal(np.asarray(mine), np.asarray(published))
    # processor time, since the clock also measures what else the machine does
    theirs = between.children_user + between.children_system - before.children_user - before.children_system
    ours = after.user + after.system - between.user - between.system
    assert ours < theirs


def test_many_images_are_shared_among_processes(tmp_path):
    pngs = []
    for number in range(70):
        (tmp_path / f"{number:010d}.png").write_bytes(tiny_kitti.png(number, 2))
        pngs.append(str(tmp_path / f"{number:010d}.png"))
    (tmp_path / "0000000005.png").write_bytes(b"\x89PNG nonsense")
    done = []
    with pytest.raises(convert.UserError, match="0000000005.png"):
        convert.convert_all(pngs, workers=2, each=lambda: done.append(1))
    assert len(done) == 70 and len(list(tmp_path.glob("*.jpg"))) == 69
    assert [path.name for path in tmp_path.glob("*.png")] == ["0000000005.png"]


def test_a_jpeg_that_others_left_half_written_is_made_again(site, split, tmp_path):
    prepare(site, tmp_path)
    jpeg = tmp_path / "kitti" / images(TRAIN, 2, (1,))[0]
    whole = jpeg.read_bytes()
    os.truncate(jpeg, 200)
    assert prepare(site, tmp_path, "--steps", "convert", "verify") == 0 and jpeg.read_bytes() == whole


# --- two at once, and killed ---------------------------------------------------------------------------------------


def start(site, tmp_path, *more, **settings):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "prepare_kitti.py"), *arguments(site, tmp_path, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def test_two_runs_at_once_do_the_work_once(site, split, tmp_path):
    site.slow = 0.05
    runs = [start(site, tmp_path, "--delete_png", "--delete_archives") for _ in range(2)]
    said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert tree(tmp_path) == complete() and len(site.asked(TRAIN_PATH)) == 1
    assert sum("waiting for it" in err for _, err in said) == 1


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_any_step_it_goes_on(site, split, tmp_path, step):
    before = STEPS[: STEPS.index(step)]
    if before:
        assert prepare(site, tmp_path, "--steps", *before) == 0
    slow = tmp_path / "slow"
    slow.mkdir()
    # every write to the disk is slowed down, so that the kill falls into the middle of the step
    (slow / "sitecustomize.py").write_text(
        "import os, time\nfsync = os.fsync\ndef later(handle):\n    fsync(handle)\n"
        f"    open({str(tmp_path / 'begun')!r}, 'a').close()\n    time.sleep(2)\nos.fsync = later\n"
    )
    site.slow = 0.2
    run = start(site, tmp_path, "--steps", step, env={**os.environ, "PYTHONPATH": str(slow)})
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    if step != "verify":
        assert run.poll() is None, "the step ended before it could be killed"
    run.send_signal(signal.SIGKILL)
    run.communicate()
    site.slow = 0
    assert prepare(site, tmp_path, "--delete_png", "--delete_archives") == 0
    assert tree(tmp_path) == complete()
    left = [path for path in (tmp_path / "kitti").rglob("*") if files.is_partial(path.name)]
    assert left == [] and len(load_ground_truth(str(split / "gt_depths.npz"))) == 2


def test_workers_end_when_their_parent_is_killed(tmp_path):
    pngs = []
    for number in range(80):
        (tmp_path / f"{number:010d}.png").write_bytes(tiny_kitti.png(number, 2))
        pngs.append(str(tmp_path / f"{number:010d}.png"))
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, time\nfrom datasets.preparation import convert\nif __name__ == '__main__':\n"
        f"    convert.convert_all({pngs!r}, workers=2, each=lambda: time.sleep(9))\n"
    )
    run = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()
    run.wait()
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    pytest.fail("the workers outlived their parent")


def test_interruption_is_quiet(site, split, tmp_path):
    site.slow = 2.0
    run = start(site, tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=40)
    assert run.returncode == 130 and err == "interrupted\n", err


def test_help_comes_without_torch():
    code = (
        "import sys, prepare_kitti\ntry:\n    prepare_kitti.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
