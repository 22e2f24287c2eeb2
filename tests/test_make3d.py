"""Make3D's protocol, against cases worked out by hand and the whole way on made-up files."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import evaluate_depth
from evaluation import make3d
from evaluation.metrics import Protocol
from system.errors import UserError
from tests.seeded_folders import HEIGHT, WIDTH, write_weights

MEDIAN = Protocol(garg_crop=False, min_gt=0, max_gt=70)


def write_pair(folder, name, depth, image=None):
    """Write an image and its laser grid; depth (55, 305)."""
    (folder / "Test134").mkdir(parents=True, exist_ok=True)
    (folder / "Gridlaserdata").mkdir(exist_ok=True)
    image = image if image is not None else Image.new("RGB", (1704, 2272), (90, 120, 60))
    image.save(folder / "Test134" / f"img-{name}.jpg", quality=30)
    grid = np.zeros((55, 305, 4))
    grid[..., 3] = depth
    savemat(folder / "Gridlaserdata" / f"depth_sph_corr-{name}.mat", {"Position3DGrid": grid})


def test_errors_of_two_pixels_by_hand():
    errors = make3d.compute_errors(np.array([10.0, 20.0]), np.array([1.0, 40.0]))
    expected = [(0.9 + 1) / 2, (8.1 + 20) / 2, np.sqrt((81 + 400) / 2), np.sqrt((1 + np.log10(2) ** 2) / 2)]
    np.testing.assert_allclose(errors, expected)


def test_an_image_by_hand():
    gt = np.full((21, 305), 80.0)  # beyond the range: does not count
    gt[0, :4] = 10, 20, 40, 0
    depth = np.full((21, 305), 5.0, np.float32)
    depth[0, :3] = 2, 4, 40
    found = make3d.evaluate_image(gt, 1 / depth, MEDIAN)
    assert found.pixels == 3 and found.ratio == pytest.approx(5)  # medians 20 and 4
    # scaled by 5: 10, 20 and 200, of which the last is clipped to 70
    expected = [30 / 40 / 3, 900 / 40 / 3, np.sqrt(900 / 3), np.log10(70 / 40) / np.sqrt(3)]
    np.testing.assert_allclose(found.errors, expected, rtol=1e-6)
    unscaled = make3d.evaluate_image(gt, 1 / depth, MEDIAN._replace(alignment="none"))
    np.testing.assert_allclose(unscaled.errors[0], (8 / 10 + 16 / 20) / 3, rtol=1e-6)
    assert make3d.evaluate_image(np.full((21, 305), 70.0), 1 / depth, MEDIAN).pixels == 0


def test_depth_meets_the_grid_by_the_nearest_neighbour():
    depth = np.linspace(1, 60, 42 * 610, dtype=np.float32).reshape(42, 610)
    gt = depth[::2, ::2].astype(float)  # cv2's nearest neighbour of half the size takes every other pixel
    found = make3d.evaluate_image(gt, 1 / depth, MEDIAN)
    np.testing.assert_allclose(found.errors, 0, atol=1e-4)


def test_the_middle_of_the_image_and_of_the_grid_are_taken(tmp_path):
    rows = np.zeros((2272, 1704, 3), np.uint8)
    rows[710:1562] = 200
    depth = np.zeros((55, 305))
    depth[17:38] = 7
    write_pair(tmp_path, "a", depth, Image.fromarray(rows))
    [pair] = make3d.find_pairs(tmp_path)
    middle = make3d.read_middle(pair.image, 64, 128)
    assert middle.shape == (3, 64, 128) and abs(middle - 200 / 255).max() < 0.05
    truth = make3d.read_depth(pair.laser)
    assert truth.shape == (21, 305) and (truth == 7).all()
    for name in make3d.INTERPOLATIONS:
        assert make3d.read_middle(pair.image, 32, 64, name).shape == (3, 32, 64)


def test_the_command_evaluates_the_whole_set(tmp_path, capsys):
    rng = np.random.default_rng(2)
    for name in ("b-1", "a-2"):
        write_pair(tmp_path / "make3d", name, rng.uniform(1, 90, (55, 305)),
                   Image.fromarray(rng.integers(0, 255, (71, 53, 3), np.uint8)).resize((1704, 2272)))  # fmt: skip
    weights = write_weights(tmp_path / "weights_0")
    flags = ["--load_weights_folder", weights, "--dataset", "make3d", "--data_path", tmp_path / "make3d",
             "--csv", tmp_path / "m.csv", "--device", "cpu", "--save_pred_disps",
             "--eval_out_dir", tmp_path]  # fmt: skip
    assert evaluate_depth.main(list(map(str, flags))) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(index for index, line in enumerate(lines) if line.split() == list(make3d.METRICS))
    printed = [float(word) for word in lines[row + 1].split()]
    with open(tmp_path / "m.csv", newline="") as file:
        images = list(csv.DictReader(file))
    assert [image["image"] for image in images] == ["a-2", "b-1"]
    np.testing.assert_allclose(printed, [np.mean([float(each[name]) for each in images]) for name in make3d.METRICS],
                               atol=6e-4)  # fmt: skip
    saved = np.load(tmp_path / "disps_make3d_split.npy")
    assert saved.shape == (2, HEIGHT, WIDTH)
    stored = ["--ext_disp_to_eval", tmp_path / "disps_make3d_split.npy", "--dataset", "make3d"]
    assert evaluate_depth.main(list(map(str, [*stored, "--data_path", tmp_path / "make3d"]))) == 0
    assert [float(word) for word in capsys.readouterr().out.splitlines()[-1].split()] == printed


def test_mistakes_are_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match="no Make3D images"):
        make3d.find_pairs(tmp_path)
    write_pair(tmp_path, "a", np.zeros((55, 305)))
    laser = tmp_path / "Gridlaserdata" / "depth_sph_corr-a.mat"
    whole = laser.read_bytes()
    for damaged in (whole[:300], whole[:100], b"", b"x" * 500):
        laser.write_bytes(damaged)
        with pytest.raises(UserError, match="not a Make3D laser file"):
            make3d.read_depth(laser)
    savemat(laser, {"Position3DGrid": np.zeros((5, 5, 4))})
    with pytest.raises(UserError, match="another form"):
        make3d.read_depth(laser)
    laser.write_bytes(whole)
    weights = write_weights(tmp_path / "weights_0")
    flags = ["--load_weights_folder", weights, "--dataset", "make3d", "--data_path", tmp_path, "--device", "cpu"]
    assert evaluate_depth.main(list(map(str, flags))) == 2
    assert "no pixel of the ground truth counts" in capsys.readouterr().err
    laser.unlink()
    with pytest.raises(UserError, match="1 of 1 laser files"):
        make3d.find_pairs(tmp_path)
    Image.new("RGB", (300, 300)).save(tmp_path / "Test134" / "img-a.jpg")
    with pytest.raises(UserError, match="another shape"):
        make3d.read_middle(tmp_path / "Test134" / "img-a.jpg", 32, 64)
