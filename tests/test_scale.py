"""Metres to a unit of depth: each way of calibrate_scale.py against the synthetic street, whose depth is known."""

import json

import numpy as np
import pytest
from PIL import Image

import calibrate_scale
import test_simple
from checkpointing.metric_scale import MetricScale, read_metric_scale, write_metric_scale
from datasets.cameras import Camera
from demo.street import Drive, Rig
from demo.street.camera import BASELINE, HEIGHT
from evaluation import scale
from evaluation.calibration import calibrate
from inference.intrinsics import rays
from inference.predictor import Predictor
from system.errors import UserError
from tests.seeded_folders import MODEL, picture, write_weights

UNIT = 23.7  # metres to a unit of the stand-in network
FRAMES = (0, 6, 12)
TOLERANCE = 0.05
BROKEN = ("", "{}", '{"factor": -1}', '{"factor": "3"}', '{"factor": true}', "[1]", '{"factor": NaN}', "[" * 100_000)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Folder with left/, right/ and depth/ of a street, camera.json, and the truth {image path: depth}."""
    root = tmp_path_factory.mktemp("street")
    rig = Rig(416, 128)
    drive = Drive(3, 13, rig)
    truth = {}
    for folder in ("left", "right", "depth"):
        (root / folder).mkdir()
    for frame in FRAMES:
        for folder, side in (("left", "l"), ("right", "r")):
            Image.fromarray(drive.picture(frame, side)).save(root / folder / f"{frame:02d}.png")
        depth = drive.depth(frame)
        np.savez(root / "depth" / f"{frame:02d}.npz", depth)
        truth[str(root / "left" / f"{frame:02d}.png")] = depth
    (fx, fy), (cx, cy) = rig.focal, rig.centre
    camera = {"width": 416, "height": 128, "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    (root / "camera.json").write_text(json.dumps(camera))
    return root, truth


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "weights_0")


def options(weights, *flags):
    opt = calibrate_scale.parser().parse_args(list(map(str, ("--load_weights_folder", weights, *flags))))
    calibrate_scale.check(opt)
    return opt


def ways(root, truth):
    """Every way by its name: the flags that it takes."""
    image, depth = next(iter(truth.items()))
    lengths = np.linalg.norm(rays(Camera(0.58 * 416, 1.92 * 128, 208, 64, 416, 128)), axis=-1)
    pixels = [(120, 100), (200, 110), (320, 70)]
    measured = [word for x, y in pixels for word in ("--pixel", x, y, depth[y, x] * lengths[y, x])]
    return {
        "pixels": ("--image_path", image, *measured),
        "height": ("--image_path", root / "left", "--camera_height", HEIGHT),
        "maps": ("--image_path", root / "left", "--ground_truth", root / "depth"),
        "stereo": ("--image_path", root / "left", "--right_path", root / "right", "--baseline", BASELINE),
    }


@pytest.mark.parametrize("way", ["pixels", "height", "maps", "stereo"])
def test_each_way_finds_the_factor_of_true_depth(street, weights, way):
    root, truth = street
    flags = ways(root, truth)[way]
    found, path, count = calibrate(options(weights, *flags), lambda image, _: truth[image] / np.float32(UNIT))
    assert found.factor == pytest.approx(UNIT, rel=TOLERANCE)
    assert found.images == count and (found.spread is None or found.spread < TOLERANCE)
    assert read_metric_scale(weights) == found and path.endswith("metric_scale.json")


@pytest.mark.parametrize("way", ["pixels", "height", "maps", "stereo"])
def test_each_way_survives_a_noisy_prediction(street, weights, way):
    root, truth = street
    rng = np.random.default_rng(0)

    def depth(image, _):
        return truth[image] / np.float32(UNIT) * np.exp(0.02 * rng.standard_normal((128, 416))).astype(np.float32)

    found, _, _ = calibrate(options(weights, *ways(root, truth)[way]), depth)
    assert found.factor == pytest.approx(UNIT, rel=TOLERANCE)


def test_the_plane_of_a_tilted_road_is_found_among_walls():
    camera = Camera(300, 300, 160, 60, 320, 120)
    direction = rays(camera).astype(np.float64)
    tilt = 0.1
    road = 1.5 / (direction @ np.array([0, np.cos(tilt), np.sin(tilt)]))
    wall = np.full(road.shape, 40.0)
    depth = np.where((road > 0) & (road < wall), road, wall)
    depth[:, :120] = 4.0
    assert scale.by_camera_height(depth / 7, camera, 1.5) == pytest.approx(7, rel=0.01)


def test_a_camera_that_looks_far_down_is_told_so():
    camera, down = Camera(300, 300, 160, 60, 320, 120), 0.5
    depth = 1.5 / (rays(camera).astype(np.float64) @ np.array([0, np.cos(down), np.sin(down)]))
    assert np.isnan(scale.by_camera_height(depth / 7, camera, 1.5))
    assert scale.by_camera_height(depth / 7, camera, 1.5, pitch=0.4) == pytest.approx(7, rel=0.01)


def test_a_distant_road_that_is_bent_up_does_not_tilt_the_plane(street):
    _, truth = street
    camera = Camera(0.58 * 416, 1.92 * 128, 208, 64, 416, 128)
    rng = np.random.default_rng(2)
    found = []
    for depth in truth.values():
        depth = np.minimum(depth, 600)
        bent = depth / (1 + 0.028 * np.clip(depth - 12, 0, None)) * np.exp(0.02 * rng.standard_normal(depth.shape))
        found.append(scale.by_camera_height(bent / UNIT, camera, HEIGHT))
    assert np.median(found) == pytest.approx(UNIT, rel=TOLERANCE)


def test_without_a_road_the_height_tells_nothing():
    rng = np.random.default_rng(1)
    camera = Camera(300, 300, 160, 60, 320, 120)
    assert np.isnan(scale.by_camera_height(np.full((120, 320), 3.0), camera, 1.5))  # a wall ahead
    assert np.isnan(scale.by_camera_height(rng.uniform(1, 50, (120, 320)), camera, 1.5))
    with pytest.raises(UserError, match="no image tells the scale"):
        scale.combined([np.nan, np.nan], "height")


def test_the_factor_is_a_median_and_its_spread_robust():
    found = scale.combined([9.0, 10.0, 11.0, np.nan, 500.0, 10.0], "x")
    assert found.factor == 10 and found.images == 5 and found.spread == pytest.approx(1.4826 * 0.1)
    assert scale.combined([3.0], "x").spread is None


def test_weights_trained_with_stereo_need_no_images(weights, tmp_path, capsys):
    flags = ["--load_weights_folder", str(weights), "--baseline", "0.54"]
    assert calibrate_scale.main(flags) == 2 and "not trained with stereo" in capsys.readouterr().err
    import torch

    state = torch.load(weights / "encoder.pth", weights_only=True)
    torch.save(state | {"use_stereo": True}, weights / "encoder.pth")
    assert calibrate_scale.main(flags) == 0 and "5.4 metres" in capsys.readouterr().out
    assert read_metric_scale(weights).factor == pytest.approx(5.4)


def test_metric_multiplies_depth_everywhere(weights, tmp_path, capsys):
    Image.fromarray(picture(70, 100)).save(tmp_path / "a.png")
    flags = ["--load_weights_folder", weights, "--image_path", tmp_path / "a.png", "--save_depth", "--no_cuda"]
    flags = list(map(str, flags))
    assert test_simple.main([*flags, "--metric"]) == 2
    assert capsys.readouterr().err.startswith("error: these weights have no metric scale; ")
    assert test_simple.main(flags) == 0
    relative = np.load(tmp_path / "a_depth.npy")
    write_metric_scale(weights, MetricScale(UNIT, None, 1, "a test"))
    assert test_simple.main([*flags, "--metric"]) == 0 and "metres: 23.7 to a unit" in capsys.readouterr().out
    np.testing.assert_allclose(np.load(tmp_path / "a_depth.npy"), UNIT * relative, rtol=1e-5)
    predictor = Predictor(weights, MODEL, "cpu", metric=True)
    np.testing.assert_allclose(predictor.depth(tmp_path / "a.png"), UNIT * relative, rtol=1e-5)


@pytest.mark.parametrize("content", BROKEN, ids=[each[:20] for each in BROKEN])
def test_a_broken_scale_file_is_one_line(weights, content):
    (weights / "metric_scale.json").write_text(content)
    with pytest.raises(UserError, match="not a metric scale"):
        read_metric_scale(weights)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "one known thing is needed"),
        (("--camera_height", 1, "--baseline", 2), "one known thing is needed"),
        (("--camera_height", 1, "--right_path", "x"), "--right_path goes with --baseline"),
        (("--camera_height", 0), "not a number above 0"),
        (("--camera_height", 1, "--camera_pitch", 80), "--camera_pitch goes with --camera_height"),
        (("--baseline", 1, "--camera_pitch", 8), "--camera_pitch goes with --camera_height"),
        (("--camera_height", 1), "no images to calibrate with"),
        (("--pixel", 1, 2, -3), "a pixel without a distance"),
        (("--pixel", 1, 2, 1e-300), "a pixel without a distance"),
        (("--pixel", 1, 2, 1e300), "a pixel without a distance"),
        (("--pixel", 1, 2, "x"), "invalid float"),
        (("--camera_height", 1, "--fov", 60, "--camera_file", "c"), "--fov is a stand-in"),
    ],
)
def test_mistakes_are_one_line(weights, capsys, flags, words):
    assert calibrate_scale.main(list(map(str, ("--load_weights_folder", weights, *flags)))) == 2
    told = capsys.readouterr().err
    assert words in told and told.startswith("error: ") and told.count("\n") == 1
    assert not (weights / "metric_scale.json").exists()


def test_pixels_outside_and_pairs_that_do_not_match_are_one_line(street, weights, capsys):
    root, truth = street
    for flags, words in (
        (("--image_path", next(iter(truth)), "--pixel", 5000, 2, 3), "a pixel outside the image"),
        (("--image_path", root / "left", "--pixel", 5, 2, 3), "distances of pixels belong to one image"),
        (("--image_path", root / "left", "--right_path", next(iter(truth)), "--baseline", 1), "differ in number"),
        (("--image_path", root / "left", "--ground_truth", root / "right" / "none"), "none"),
    ):
        assert calibrate_scale.main(list(map(str, ("--load_weights_folder", weights, "--no_cuda", *flags)))) == 2
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1
