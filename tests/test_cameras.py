"""Camera files of every form, adjusted and judged; undistortion against Brown's formula written out."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from datasets import cameras
from datasets.camera_files import read_camera
from datasets.cameras import Camera
from datasets.frames_preparation.geometry import Geometry
from system.errors import UserError

PLAIN = Camera(500.0, 510.0, 330.0, 170.0, 640, 360)
BENT = Camera(300.0, 305.0, 310.0, 200.0, 640, 400, (-0.25, 0.06, 0.001, -0.002, -0.004))

OPENCV_YAML = """%YAML:1.0
---
calibration_time: "some day"
image_width: 640
image_height: 360
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 5.0e+02, 0., 330., 0., 510., 170., 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 1
   cols: 5
   dt: d
   data: [ -0.1, 0.02, 0.001, 0.002, 0. ]
"""
ROS_YAML = """image_width: 640
image_height: 360
camera_name: left
camera_matrix:
  rows: 3
  cols: 3
  data: [500, 0, 330, 0, 510, 170, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.1, 0.02, 0.001, 0.002, 0]
"""
JSON = {"width": 640, "height": 360, "fx": 500, "fy": 510, "cx": 330, "cy": 170}
WITH = {"distortion": (-0.1, 0.02, 0.001, 0.002, 0.0)}
SQUARE = {"fx": 500.0, "fy": 500.0}
NO_SIZE = {"width": None, "height": None}
FORMS = {
    "json": (json.dumps(JSON), {}),
    "json with distortion": (json.dumps(JSON | {"distortion": [-0.1, 0.02, 0.001, 0.002, 0]}), WITH),
    "json with baseline": (json.dumps(JSON | {"baseline": 0.12}), {"baseline": 0.12}),
    "3x3": ("500 0 330\n0 510 170\n0 0 1\n", NO_SIZE),
    "3x3 with commas": ("# K\n500, 0, 330,\n0, 510, 170,\n0, 0, 1", NO_SIZE),
    "ros": (ROS_YAML, WITH),
    "opencv": (OPENCV_YAML, WITH),
    "colmap PINHOLE": ("# Camera list\n1 PINHOLE 640 360 500 510 330.5 170.5\n", {}),
    "colmap SIMPLE_PINHOLE": ("1 SIMPLE_PINHOLE 640 360 500 330.5 170.5\n", SQUARE),
    "colmap SIMPLE_RADIAL": (
        "1 SIMPLE_RADIAL 640 360 500 330.5 170.5 -0.1\n",
        SQUARE | {"distortion": (-0.1, 0, 0, 0, 0)},
    ),
    "colmap RADIAL": ("1 RADIAL 640 360 500 330.5 170.5 -0.1 0.02", SQUARE | {"distortion": (-0.1, 0.02, 0, 0, 0)}),
    "colmap OPENCV": ("7 OPENCV 640 360 500 510 330.5 170.5 -0.1 0.02 0.001 0.002\n", WITH),
    "kitti raw": ("calib_time: x\nS_rect_02: 6.4e+02 3.6e+02\nP_rect_02: 500 0 330 45 0 510 170 0 0 0 1 0\n", {}),
    "kitti odometry": ("P0: 1 2 3 4 5 6 7 8 9 10 11 12\nP2: 500 0 330 45 0 510 170 0 0 0 1 0\n", NO_SIZE),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_camera(tmp_path, form):
    text, differences = FORMS[form]
    (tmp_path / "camera").write_text(text)
    assert read_camera(tmp_path / "camera") == dataclasses.replace(PLAIN, **differences)


def test_what_is_written_is_read_back(tmp_path):
    for camera in (PLAIN, BENT, dataclasses.replace(PLAIN, baseline=0.3)):
        (tmp_path / "camera.json").write_text(json.dumps(camera.as_dict()))
        assert read_camera(tmp_path / "camera.json") == camera


@pytest.mark.parametrize(
    "text, words",
    [
        ("hello", "not a camera file"),
        ("", "0 numbers instead of 3x3"),
        ("{", "not a camera file"),
        (json.dumps({"width": 640}), "no 'height'"),
        (json.dumps(JSON | {"distortion": [1, 2]}), "2 distortion coefficients"),
        (json.dumps(JSON | {"distortion": [0.1] * 8}), "more than five"),
        (json.dumps(JSON | {"width": 0.5}), "a size of 0.5 pixels"),
        ("500 3 330 0 510 170 0 0 1", "skew"),
        ("500 0 330 0 510 170 0 0 2", "the matrix is not"),
        ("1 FULL_OPENCV 640 360 1 2 3 4 5 6 7 8 9 10 11 12\n", "the model FULL_OPENCV"),
        ("1 PINHOLE 640 360 500 510 330\n", "3 parameters for PINHOLE"),
        ("1 SIMPLE_PINHOLE 640 360 500 330 170\n2 SIMPLE_PINHOLE 64 36 50 33 17\n", "2 different cameras"),
        (ROS_YAML.replace("plumb_bob", "equidistant"), "the distortion model equidistant"),
        ("camera_matrix: [1, 2\n", "broken YAML"),
        ("camera_matrix: !!python/object/apply:os.system [ls]\n", "broken YAML"),
        ("[" * 100000, "not a camera file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "camera").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_camera(tmp_path / "camera")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_camera(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(UserError, match="not text"):
        read_camera(tmp_path / "binary")


def project(camera, points):
    """Pixels (N, 2) of points (N, 3) by the formula of the module's docstring, term by term."""
    k1, k2, p1, p2, k3 = camera.distortion or (0,) * 5
    pixels = []
    for X, Y, Z in points:
        x, y = X / Z, Y / Z
        r2 = x * x + y * y
        d = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        u = x * d + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * d + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        pixels.append((camera.fx * u + camera.cx, camera.fy * v + camera.cy))
    return np.array(pixels)


def rays(camera):
    """Points (N, 3) that a straight camera sees all over its image."""
    columns, rows = np.meshgrid(np.linspace(0, camera.width - 1, 9), np.linspace(0, camera.height - 1, 7))
    x, y = (columns.ravel() - camera.cx) / camera.fx, (rows.ravel() - camera.cy) / camera.fy
    return np.stack([x, y, np.ones_like(x)], 1) * 3.7


@pytest.mark.parametrize("distortion", [BENT.distortion, (0.2, -0.05, 0, 0, 0), (-0.3, 0.1, 0, 0, 0)])
def test_undistortion_is_browns_formula_to_a_tenth_of_a_pixel(distortion):
    camera = dataclasses.replace(BENT, distortion=distortion)
    straight, map_x, map_y = cameras.undistortion(camera)
    points = rays(straight)
    there, wanted = project(straight, points), project(camera, points)
    inside = np.rint(there).astype(int)
    assert np.abs(inside - there).max() < 0.51
    points = np.stack([(inside[:, 0] - straight.cx) / straight.fx, (inside[:, 1] - straight.cy) / straight.fy,
                       np.ones(len(inside))], 1)  # fmt: skip
    wanted = project(camera, points)
    found = np.stack([map_x[inside[:, 1], inside[:, 0]], map_y[inside[:, 1], inside[:, 0]]], 1)
    assert np.abs(found - wanted).max() < 0.1
    assert wanted.min() > -1 and (wanted < (camera.width, camera.height)).all()  # no new pixel lies outside


def test_spots_come_to_where_the_straight_camera_sees_them():
    points = np.array([[x, y, 1.0] for x in (-0.7, 0.0, 0.6) for y in (-0.4, 0.0, 0.4)])
    pixels = project(BENT, points)
    rows, columns = np.mgrid[: BENT.height, : BENT.width]
    image = sum(np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 18) for u, v in pixels)
    image = np.repeat((255 * image.clip(0, 1)).astype(np.uint8)[..., None], 3, 2)
    geometry = Geometry(640, 400, BENT, None, None, 400, "x")
    seen = geometry.apply(image)[..., 0].astype(float)
    for u, v in project(geometry.camera, points):
        if 12 < u < 627 and 12 < v < 387:
            r, c = np.mgrid[round(v) - 11 : round(v) + 12, round(u) - 11 : round(u) + 12]
            weight = seen[r, c]
            assert abs((weight * c).sum() / weight.sum() - u) < 0.1
            assert abs((weight * r).sum() / weight.sum() - v) < 0.1


def test_crop_and_scale_move_the_camera_with_the_pixels():
    geometry = Geometry(640, 360, PLAIN, None, (40, 20, 480, 240), 120, "x")
    camera = geometry.camera
    assert (camera.width, camera.height) == (240, 120)
    spot = np.zeros((360, 640, 3), np.uint8)
    spot[140:144, 300:304] = 255  # its middle is (301.5, 141.5)
    seen = geometry.apply(spot)[..., 0].astype(float)
    rows, columns = np.mgrid[:120, :240]
    found = (seen * columns).sum() / seen.sum(), (seen * rows).sum() / seen.sum()
    ray = ((301.5 - PLAIN.cx) / PLAIN.fx, (141.5 - PLAIN.cy) / PLAIN.fy, 1)
    assert np.allclose(project(camera, [ray])[0], found, atol=0.05)
    with pytest.raises(UserError, match="--crop leaves the frames"):
        Geometry(640, 360, PLAIN, None, (400, 20, 480, 240), 120, "x")


def test_a_field_of_view_gives_its_focal_length():
    camera = cameras.from_fov(90, 640, 360)
    assert np.isclose(camera.fx, 320) and camera.fy == camera.fx and camera.cx == 319.5
    assert "guessed camera" in Geometry(640, 360, None, 90, None, 360, None).notices[0]


def test_normalised_intrinsics_are_rows_over_size():
    K = PLAIN.normalised()
    assert K.dtype == np.float32 and np.allclose(K[0], [500 / 640, 0, 330 / 640, 0])
    assert np.allclose(K[1], [0, 510 / 360, 170 / 360, 0]) and np.array_equal(K[2:], np.eye(4)[2:])


@pytest.mark.parametrize(
    "changes, size, words",
    [
        ({}, (640, 480), "a camera of 640x360 images for images of 640x480"),
        ({"fx": -500.0}, (640, 360), "focal length that is not positive"),
        ({"cx": 700.0}, (640, 360), "principal point outside the image"),
        ({"cx": float("nan")}, (640, 360), "not finite"),
        ({"fx": 5100.0}, (640, 360), "focal lengths that differ too much"),
        ({"fx": 0.58, "fy": 1.92, "cx": 0.5, "cy": 0.5}, (640, 360), "in units of the image's size"),
        ({"cx": 160.0, "cy": 85.0, **NO_SIZE}, (640, 360), "a camera in pixels of another size.*multiply.*2.0"),
        ({"distortion": (-0.9, 0, 0, 0, 0.0), "fx": 250.0, "fy": 250.0}, (640, 360), "folds the image"),
    ],
)
def test_cameras_that_cannot_be_are_refused_with_the_reason(changes, size, words):
    with pytest.raises(UserError, match=words) as caught:
        cameras.fitted(dataclasses.replace(PLAIN, **changes), *size, "camera.json")
    assert "camera.json" in str(caught.value)


@pytest.mark.parametrize(
    "changes, size, words",
    [
        ({}, (320, 180), "one of 640x360 images: scaled to 320x180"),
        ({"fx": 700.0}, (640, 360), "far from square"),
        ({"cx": 200.0}, (640, 360), "far from the middle"),
        ({"fx": 5000.0, "fy": 5000.0}, (640, 360), "unusual field of view, 7 degrees"),
    ],
)
def test_odd_cameras_are_taken_with_a_notice(changes, size, words):
    camera, notices = cameras.fitted(dataclasses.replace(PLAIN, **changes), *size, "camera.json")
    assert len(notices) == 1 and words in notices[0]
    assert (camera.width, camera.height) == size


def test_ordinary_cameras_are_taken_silently():
    for camera in (PLAIN, BENT, cameras.from_fov(65, 1080, 1920)):
        assert cameras.fitted(camera, camera.width, camera.height, "x") == (camera, [])


def test_opencv_reads_what_it_wrote_itself(tmp_path):
    cv2 = pytest.importorskip("cv2")
    storage = cv2.FileStorage(str(tmp_path / "camera.yml"), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 640)
    storage.write("image_height", 400)
    storage.write("camera_matrix", BENT.matrix())
    storage.write("distortion_coefficients", np.array([BENT.distortion]))
    storage.release()
    assert read_camera(tmp_path / "camera.yml") == BENT


def test_a_frame_that_needs_nothing_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    assert np.array_equal(Geometry(640, 360, PLAIN, None, None, 400, "x").apply(image), image)
    assert Image.fromarray(image).size == (640, 360)
