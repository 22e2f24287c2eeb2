"""Point clouds: places and colours of points by closed form, the files, sequences with poses."""

import json

import numpy as np
import pytest
from PIL import Image

import test_simple
from datasets.cameras import Camera
from inference.intrinsics import Intrinsics, rays
from inference.point_cloud import VERTEX, moved, points_of, write_cloud
from tests.seeded_folders import picture, write_weights

CAMERA = Camera(50.0, 40.0, 20.0, 12.0, 48, 32)


def read_ply(path):
    """Read a binary .ply by its own words."""
    raw = path.read_bytes()
    header, _, body = raw.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex "))
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [line.split()[1:] for line in lines if line.startswith("property")]
    dtype = np.dtype([(name, kinds[kind]) for kind, name in fields])
    assert len(body) == count * dtype.itemsize
    return np.frombuffer(body, dtype)


def test_points_of_a_plane_lie_on_it_with_their_colours():
    image = picture(32, 48)
    points = points_of(image, np.full((32, 48), 4.0, np.float32), CAMERA)
    assert len(points) == 32 * 48
    first, last = points[0], points[-1]
    assert tuple(first)[:3] == pytest.approx((4 * (0 - 20) / 50, 4 * (0 - 12) / 40, 4))
    assert tuple(last)[:3] == pytest.approx((4 * (47 - 20) / 50, 4 * (31 - 12) / 40, 4))
    assert tuple(last)[3:] == tuple(image[-1, -1])


def test_edges_limits_and_steps_leave_points_out():
    depth = np.full((32, 48), 4.0, np.float32)
    depth[:, 24:] = 8
    image = picture(32, 48)
    assert len(points_of(image, depth, CAMERA)) == 32 * 46
    assert set(points_of(image, depth, CAMERA, limits=(1, 5))["z"]) == {4}
    assert len(points_of(image, np.full((32, 48), 4.0, np.float32), CAMERA, step=4)) == 8 * 12


def test_a_pose_moves_points(tmp_path):
    points = np.zeros(2, VERTEX)
    points["z"] = 1, 2
    pose = np.array([[0, 0, 1, 10], [0, 1, 0, 20], [-1, 0, 0, 30], [0, 0, 0, 1.0]])
    np.testing.assert_allclose([tuple(each)[:3] for each in moved(points, pose)], [(11, 20, 30), (12, 20, 30)])
    assert write_cloud(tmp_path / "a.ply", [points, points]) == 4
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply"), np.concatenate([points, points]))


def test_rays_of_a_distorted_camera_are_opencvs():
    import cv2

    camera = Camera(50.0, 50.0, 24.0, 16.0, 48, 32, (-0.1, 0.01, 0.001, 0.002, 0.0))
    seen = rays(camera)
    again, _ = cv2.projectPoints(seen.reshape(-1, 3).astype(float), np.zeros(3), np.zeros(3), camera.matrix(),
                                 np.array(camera.distortion))  # fmt: skip
    x, y = np.meshgrid(np.arange(48), np.arange(32))
    np.testing.assert_allclose(again.reshape(32, 48, 2), np.stack((x, y), -1), atol=0.01)


def test_intrinsics_are_those_beside_the_image_else_kittis_and_that_is_said(tmp_path, caplog):
    caplog.set_level("INFO")
    found = Intrinsics().camera(str(tmp_path / "a" / "b.png"), 100, 50)
    assert (found.fx, found.fy, found.cx, found.cy) == pytest.approx((58, 96, 50, 25)) and "KITTI's" in caplog.text
    (tmp_path / "camera.json").write_text(json.dumps({"width": 200, "height": 100, "fx": 90, "fy": 90, "cx": 99.5,
                                                      "cy": 49.5}))  # fmt: skip
    found = Intrinsics().camera(str(tmp_path / "a" / "b.png"), 100, 50)
    assert (found.fx, found.fy, found.cx, found.cy) == (45, 45, 49.5, 24.5)
    assert Intrinsics(fov=90).camera("a.png", 100, 50).fx == pytest.approx(50)


def test_clouds_of_images_and_of_a_sequence(tmp_path, capsys):
    weights = write_weights(tmp_path / "weights_0")
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        Image.fromarray(picture(64, 96)).save(frames / f"{number}.png")
    flags = ["--load_weights_folder", weights, "--image_path", frames, "--no_cuda", "--save_depth", "--point_cloud"]
    flags = [*map(str, flags), "--fov", "60"]
    assert test_simple.main(flags) == 0
    points, depth = read_ply(frames / "0_cloud.ply"), np.load(frames / "0_depth.npy")
    assert set(points["z"]) <= set(depth.ravel()) and len(points) > 0.3 * depth.size
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 100\n")
    assert test_simple.main([*flags, "--poses", str(tmp_path / "poses.txt"), "--cloud_step", "1"]) == 0
    both = read_ply(frames / "sequence_cloud.ply")
    assert len(both) == 2 * len(points)
    np.testing.assert_allclose(both["z"][len(points) :], points["z"] + 100, rtol=1e-6)
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 3)
    capsys.readouterr()
    assert test_simple.main([*flags, "--poses", str(tmp_path / "poses.txt")]) == 2
    assert "images and poses differ in number" in capsys.readouterr().err
