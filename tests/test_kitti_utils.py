"""KITTI's files and the projection of LiDAR scans, against the published figures and an obvious implementation."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import kitti_utils
from system.errors import UserError

FIGURES = Path(__file__).parent / "reference" / "ground_truth.npz"
CAMERAS = """calib_time: 09-Jan-2012 13:57:47
S_rect_02: 60 20
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_02: 20 0 30 1 0 20 10 0 0 0 1 0
P_rect_03: 20 0 30 -9 0 20 10 0 0 0 1 0
"""
VELODYNE = "calib_time: 15-Mar-2012\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.3\n"


def obvious_depth_map(points, P, height, width, vel_depth):
    """The projection as its description says it, point by point."""
    depth = np.zeros((height, width))
    hits = []
    for point in points:
        u, v, z = P @ point
        with np.errstate(all="ignore"):
            column, row = np.round(u / z) - 1, np.round(v / z) - 1
        if 0 <= column < width and 0 <= row < height:
            hits.append((int(row), int(column), point[0] if vel_depth else z))
    for row, column, value in hits:
        depth[row, column] = value
    keys = [row * (width - 1) + column - 1 for row, column, _ in hits]
    for key, count in Counter(keys).items():
        if count > 1:
            same = [hit for hit, own in zip(hits, keys, strict=True) if own == key]
            depth[same[0][0], same[0][1]] = min(value for _, _, value in same)
    depth[depth < 0] = 0
    return depth


@pytest.fixture
def day(tmp_path):
    (tmp_path / "calib_cam_to_cam.txt").write_text(CAMERAS)
    (tmp_path / "calib_velo_to_cam.txt").write_text(VELODYNE)
    return tmp_path


def write_scan(path, points):
    np.hstack([points, np.full((len(points), 1), 0.5)]).astype("<f4").tofile(path)
    return path


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("kind", ["velodyne", "camera"])
def test_projection_equals_the_published_figures(kitti_sample, index, kind):
    with np.load(FIGURES) as figures:
        drive, frame = str(figures[f"name_{index}"]).split()
        prefix = f"{kind}_depth_{index}_"
        names = ("shape", "count", "sum", "pixels_sha256", "index", "depth")
        expected = {name: figures[prefix + name] for name in names}
    root = kitti_sample / "kitti_raw"
    scan = root / drive / "velodyne_points" / "data" / f"{int(frame):010d}.bin"
    depth = kitti_utils.generate_depth_map(root / drive.split("/")[0], scan, 2, vel_depth=kind == "velodyne")
    pixels = np.flatnonzero(depth)
    assert depth.dtype == np.float32 and depth.shape == tuple(expected["shape"])
    assert hashlib.sha256(pixels.astype("<i4").tobytes()).hexdigest() == str(expected["pixels_sha256"])
    np.testing.assert_allclose(depth.ravel()[expected["index"]], expected["depth"], atol=1e-3)
    assert abs(depth.sum(dtype=np.float64) - expected["sum"]) < 1e-4 * expected["count"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cam", [2, 3])
@pytest.mark.parametrize("vel_depth", [False, True])
def test_projection_equals_the_obvious_implementation(day, seed, cam, vel_depth):
    points = np.random.default_rng(seed).uniform((-2, -15, -6), (12, 15, 6), (4000, 3))
    points[:50, 0] = points[:50, 0].clip(0, 0.29)  # ahead of the velodyne, behind the camera
    scan = write_scan(day / "scan.bin", points)
    height, width, P = kitti_utils.camera_calibration(day, cam)
    ahead = [point for point in kitti_utils.load_velodyne_points(scan) if point[0] >= 0]
    expected = obvious_depth_map(ahead, P, height, width, vel_depth)
    depth = kitti_utils.generate_depth_map(day, scan, cam, vel_depth)
    assert np.count_nonzero(depth) > 300
    np.testing.assert_array_equal(depth > 0, expected > 0)
    np.testing.assert_allclose(depth, expected, atol=1e-5)


def test_a_point_straight_ahead_lands_on_the_principal_point(day):
    depth = kitti_utils.generate_depth_map(day, write_scan(day / "scan.bin", np.array([[5.3, 0, 0]])), vel_depth=False)
    assert np.argwhere(depth).tolist() == [[9, 29]] and depth[9, 29] == pytest.approx(5.0)
    depth = kitti_utils.generate_depth_map(day, day / "scan.bin", vel_depth=True)
    assert depth[9, 29] == pytest.approx(5.3)


def test_empty_scan_gives_an_empty_map(day):
    (day / "scan.bin").write_bytes(b"")
    depth = kitti_utils.generate_depth_map(day, day / "scan.bin")
    assert depth.shape == (20, 60) and not depth.any()


def test_velodyne_points_are_homogeneous(tmp_path):
    points = kitti_utils.load_velodyne_points(write_scan(tmp_path / "scan.bin", np.array([[1, 2, 3], [4, 5, 6]])))
    np.testing.assert_array_equal(points, [[1, 2, 3, 1], [4, 5, 6, 1]])


def test_calibration_is_read_as_numbers_or_text(day):
    entries = kitti_utils.read_calib_file(day / "calib_cam_to_cam.txt")
    np.testing.assert_array_equal(entries["S_rect_02"], [60, 20])
    assert entries["calib_time"] == "09-Jan-2012 13:57:47"


def test_changed_calibration_is_noticed(day):
    assert kitti_utils.camera_calibration(day)[:2] == (20, 60)
    (day / "calib_cam_to_cam.txt").write_text(CAMERAS.replace("60 20", "160 20"))
    assert kitti_utils.camera_calibration(day)[:2] == (20, 160)


def test_broken_files_are_user_errors(day):
    scan = write_scan(day / "scan.bin", np.ones((3, 3)))
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"truncated LiDAR scan; .*scan.bin \(45 bytes"):
        kitti_utils.generate_depth_map(day, scan)
    with pytest.raises(UserError, match="missing LiDAR scan"):
        kitti_utils.load_velodyne_points(day / "none.bin")
    write_scan(scan, np.ones((3, 3)))
    (day / "calib_velo_to_cam.txt").write_text("R: 1 2 3\nT: 0 0 0\n")
    with pytest.raises(UserError, match="no entry R of 9 numbers; .*calib_velo_to_cam.txt"):
        kitti_utils.generate_depth_map(day, scan)
    (day / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(UserError, match="missing calibration file; .*calib_velo_to_cam.txt"):
        kitti_utils.generate_depth_map(day, scan)


@pytest.mark.parametrize("size", ["-5 20", "1e9 20", "60 0"])
def test_a_size_that_no_image_has_is_refused(day, size):
    (day / "calib_cam_to_cam.txt").write_text(CAMERAS.replace("60 20", size))
    with pytest.raises(UserError, match="no image has this size; .*S_rect_02"):
        kitti_utils.camera_calibration(day)


def test_a_pipe_is_no_scan(tmp_path):
    os.mkfifo(tmp_path / "scan.bin")
    with pytest.raises(UserError, match="not a regular file"):
        kitti_utils.load_velodyne_points(tmp_path / "scan.bin")
