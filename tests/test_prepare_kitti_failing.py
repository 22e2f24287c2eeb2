"""What goes wrong on the way to a KITTI folder: connections, archives, disks, lists and command lines."""

import errno
import io
import os
import time
import zipfile

import pytest

import prepare_kitti
from datasets.preparation import verification
from fetching import archives, downloads
from system import files
from tests import tiny_kitti
from tests.http_site import Site
from tests.kitti_preparation import (
    SERVED,
    STEPS,
    TRAIN_PATH,
    TRAIN_ZIP,
    complete,
    data_files,
    images,
    prepare,
    tree,
)
from tests.tiny_kitti import OTHER, TEST, TRAIN


def test_a_cut_connection_is_resumed(kitti_site, kitti_split, tmp_path):
    kitti_site.cut_after = [100, 200]
    assert prepare(kitti_site, tmp_path, "--steps", "download", "--parallel", "1") == 0
    assert any(span for _, _, span in kitti_site.requests)
    assert (tmp_path / "kitti" / "archives" / TRAIN_ZIP).read_bytes() == SERVED[TRAIN_PATH]


def test_a_missing_archive_is_named_while_the_others_arrive(kitti_site, kitti_split, tmp_path, capsys):
    del kitti_site.files[TRAIN_PATH]
    assert prepare(kitti_site, tmp_path, "--delete_png", "--steps", "download", "unpack", "convert") == 2
    error = capsys.readouterr().err
    assert "404" in error and TRAIN_ZIP in error and error.count("\n") == 1
    assert set(data_files(tmp_path)) == {name for name in complete() if not name.startswith(TRAIN)}
    kitti_site.files[TRAIN_PATH] = SERVED[TRAIN_PATH]
    assert prepare(kitti_site, tmp_path, "--delete_png") == 0 and data_files(tmp_path) == complete()


def test_a_damaged_archive_is_removed_and_fetched_again_next_time(kitti_site, kitti_split, tmp_path, capsys):
    good = SERVED[TRAIN_PATH]
    middle = good.index(b"image_02/data/0000000003.png") + 200
    kitti_site.files[TRAIN_PATH] = good[:middle] + bytes(50) + good[middle + 50 :]
    assert prepare(kitti_site, tmp_path, "--steps", "download", "unpack") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the archive is damaged") and TRAIN_ZIP in error and error.count("\n") == 1
    assert f"archives/{TRAIN_ZIP}" not in tree(tmp_path)
    assert not any("0000000003.png" in name and name.startswith(f"{TRAIN}/image_02") for name in tree(tmp_path))
    kitti_site.files[TRAIN_PATH] = good
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0 and tree(tmp_path) == complete()


@pytest.mark.parametrize("data", [b"", b"<html>sorry</html>", SERVED[TRAIN_PATH][:5000]])
def test_what_is_no_archive_is_removed(kitti_site, kitti_split, tmp_path, capsys, data):
    kitti_site.files[TRAIN_PATH] = data
    assert prepare(kitti_site, tmp_path, "--steps", "download", "unpack") == 2
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
def test_hostile_paths_are_refused_before_anything_is_unpacked(kitti_site, kitti_split, tmp_path, capsys, name):
    kitti_site.files[TRAIN_PATH] = hostile(name)
    assert prepare(kitti_site, tmp_path, "--steps", "download", "unpack") == 2
    error = capsys.readouterr().err
    assert "evil.txt" in error and TRAIN_ZIP in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("evil.txt")) and not (tmp_path / "kitti" / TRAIN).exists()


def test_links_in_an_archive_are_refused(kitti_site, kitti_split, tmp_path, capsys):
    kitti_site.files[TRAIN_PATH] = hostile(f"{TRAIN}/image_02/data/0000000009.png", external_attr=0o120777 << 16)
    assert prepare(kitti_site, tmp_path, "--steps", "download", "unpack") == 2
    assert "is a link" in capsys.readouterr().err


def test_a_member_larger_than_allowed_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(SERVED[TRAIN_PATH])
    with pytest.raises(archives.UserError, match="would unpack to"):
        archives.unpack(str(tmp_path / "a.zip"), {images(TRAIN, 2, (1,), "png")[0]: str(tmp_path / "x")}, largest=10)
    assert not (tmp_path / "x").exists()


def test_a_wrong_size_is_told(kitti_site, kitti_split, tmp_path, capsys):
    kitti_site.states[TRAIN_PATH] = []
    described = downloads.download.describe

    def smaller(url, **options):
        remote = described(url, **options)
        return remote._replace(size=remote.size - 1) if url.endswith(TRAIN_ZIP) else remote

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads.download, "describe", smaller)
        assert prepare(kitti_site, tmp_path, "--steps", "download") == 2
    error = capsys.readouterr().err
    assert "the server offers" in error and f"archives/{TRAIN_ZIP}" not in tree(tmp_path)


def test_a_disk_too_small_is_told_before_anything_is_fetched(kitti_site, kitti_split, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 1000)
    assert prepare(kitti_site, tmp_path) == 2
    said = capsys.readouterr()
    assert "not enough disk space" in said.err and "1.0 kB free" in said.err and "free in" in said.out
    assert tree(tmp_path) == [] and all(method == "HEAD" for method, _, _ in kitti_site.requests)


@pytest.mark.parametrize("step", ["unpack", "convert"])
def test_a_disk_that_fills_up_leaves_only_whole_files(kitti_site, kitti_split, tmp_path, capsys, monkeypatch, step):
    assert prepare(kitti_site, tmp_path, "--steps", *STEPS[: STEPS.index(step)]) == 0
    calls, fsync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        assert prepare(kitti_site, tmp_path, "--steps", step) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and "disk is full" in error[0]
    for path in (tmp_path / "kitti").rglob("*"):
        assert not files.is_partial(path.name)
        assert not (path.is_file() and path.suffix and verification.fault(str(path)))
    assert prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives") == 0 and tree(tmp_path) == complete()


def test_an_incomplete_list_is_named_file_by_file(kitti_site, kitti_split, tmp_path, capsys):
    prepare(kitti_site, tmp_path, "--delete_png", "--delete_archives", "--lidar", "test")
    (kitti_split / "val_files.txt").write_text("".join(f"{OTHER} {frame} l\n" for frame in range(100, 130)))
    gone, cut = images(TRAIN, 2, (1,))[0], images(TRAIN, 3, (2,))[0]
    (tmp_path / "kitti" / gone).unlink()
    os.truncate(tmp_path / "kitti" / cut, 300)
    os.truncate(tmp_path / "kitti" / TEST / "velodyne_points/data/0000000001.bin", 100)
    capsys.readouterr()
    assert prepare(kitti_site, tmp_path, "--steps", "verify") == 2
    said = capsys.readouterr()
    assert f"missing: {gone}\n" in said.out and f"cut short: {cut}\n" in said.out
    assert "cut short: " + TEST + "/velodyne_points/data/0000000001.bin" in said.out
    named = said.out.splitlines()
    assert len(named) == 21 and named[-1] == "... and 13 more"
    assert said.err.startswith("error: 33 of ") and said.err.count("\n") == 1


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
        (["--data_path", "a/" * 1500], "--data_path is a path too deep"),
    ],
)
def test_user_mistakes_are_one_line(kitti_site, kitti_split, tmp_path, capsys, more, words):
    assert prepare(kitti_site, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1


def test_without_a_network_the_cause_comes_first_and_is_the_only_error(kitti_split, tmp_path, capsys):
    with Site({}) as gone:
        closed = gone.url
    began = time.monotonic()
    paths = ["--data_path", str(tmp_path / "kitti"), "--split", str(kitti_split)]
    assert prepare_kitti.main([*paths, "--base_url", closed]) == 2
    said = capsys.readouterr()
    first, second = said.out.splitlines()[:2]
    assert "5 archives to download from 127.0.0.1" in first and "sizes cannot be asked: no connection to 127" in second
    assert "no connection to 127.0.0.1" in said.err and "5 archives cannot be fetched" in said.err
    assert said.err.count("\n") == 1 and "missing" not in said.out and time.monotonic() - began < 30


def test_archives_that_are_here_are_unpacked_without_a_network(kitti_split, tmp_path, capsys):
    with Site({}) as gone:
        closed = gone.url
    (tmp_path / "kitti" / "archives").mkdir(parents=True)
    (tmp_path / "kitti" / "archives" / TRAIN_ZIP).write_bytes(SERVED[TRAIN_PATH])
    paths = ["--data_path", str(tmp_path / "kitti"), "--split", str(kitti_split)]
    assert prepare_kitti.main([*paths, "--base_url", closed]) == 2
    assert "no connection" in capsys.readouterr().err and images(TRAIN, 2, (1,))[0] in tree(tmp_path)


def test_a_server_without_any_of_the_archives_is_one_line(kitti_site, kitti_split, tmp_path, capsys):
    kitti_site.files.clear()
    assert prepare(kitti_site, tmp_path) == 2
    said = capsys.readouterr()
    assert "none of the 5 archives is to be had: the server answers 404" in said.err and said.err.count("\n") == 1
    assert "missing:" not in said.out


def test_a_calibration_archive_without_calibration_is_told_so(kitti_site, kitti_split, tmp_path, capsys):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("2011_09_26/calib_cam_to_cam.txt", tiny_kitti.CAMERA)
    kitti_site.files["/2011_09_26_calib.zip"] = buffer.getvalue()
    assert prepare(kitti_site, tmp_path, "--steps", "download", "unpack") == 2
    error = capsys.readouterr().err
    assert "no member 2011_09_26/calib_velo_to_cam.txt" in error and "not KITTI's archive of that day" in error


def test_frames_that_kitti_does_not_have_are_told_apart_from_missing_ones(kitti_site, kitti_split, tmp_path, capsys):
    (kitti_split / "val_files.txt").write_text(f"{OTHER} 100 l\n")
    assert prepare(kitti_site, tmp_path) == 2
    said = capsys.readouterr()
    assert f"not in the drive's archive: {images(OTHER, 2, (100,))[0]}" in said.out
    assert "leave lines out of the split" in said.err and "delete" not in said.err and "again" not in said.err


def test_advice_against_a_small_disk_names_what_is_not_given(kitti_site, kitti_split, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 1000)
    assert prepare(kitti_site, tmp_path, "--delete_png", "--parallel", "1") == 2
    error = capsys.readouterr().err
    assert "add --delete_archives" in error and "--delete_png" not in error and "--parallel" not in error


def test_a_data_path_that_is_a_file_is_one_line(kitti_site, kitti_split, tmp_path, capsys):
    (tmp_path / "kitti").write_text("")
    assert prepare(kitti_site, tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1
