"""The synthetic street: its files, and that its pictures, depths, scans and poses tell one story."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import kitti_utils
from demo.street import Drive, Rig, dense_depth, read_poses, writer
from demo.street.__main__ import main
from demo.street.camera import BASELINE, pose
from demo.street.road import Road
from demo.street.textures import TextureStore

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = ["--drives", "1", "--frames", "3", "--width", "96", "--height", "32", "--samples", "1", "--workers", "1"]


@pytest.fixture(scope="module")
def drive():
    """A drive at a size where a pixel's error shows."""
    return Drive(5, 4, Rig(208, 64))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A small set of drives on disk."""
    root = tmp_path_factory.mktemp("drives")
    assert main(["--out", str(root), *SMALL]) == 0
    return root


def files_below(root):
    """Relative path -> contents of every file."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sample(picture, x, y):
    """Bilinear samples of (H, W, C) at float pixels; points outside take the border."""
    x, y = np.clip(x, 0, picture.shape[1] - 1.001), np.clip(y, 0, picture.shape[0] - 1.001)
    i, j = y.astype(int), x.astype(int)
    a, b = (y - i)[..., None], (x - j)[..., None]
    upper = picture[i, j] * (1 - b) + picture[i, j + 1] * b
    return upper * (1 - a) + (picture[i + 1, j] * (1 - b) + picture[i + 1, j + 1] * b) * a


def warp(drive, source, depth, source_from_target):
    """`source` seen from the target camera through the target's `depth`; and which pixels fall inside it."""
    height, width = depth.shape
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, y, np.ones_like(x)], -1).astype(float)
    points = pixels @ np.linalg.inv(drive.rig.intrinsics()).T * np.minimum(depth, 1e4)[..., None]  # the sky
    points = points @ source_from_target[:3, :3].T + source_from_target[:3, 3]
    image = points @ drive.rig.intrinsics().T
    u, v = image[..., 0] / image[..., 2], image[..., 1] / image[..., 2]
    inside = (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1) & (image[..., 2] > 0)
    return sample(source, np.where(inside, u, 0), np.where(inside, v, 0)), inside


def test_the_same_seed_gives_the_same_files_whatever_the_workers(tree, tmp_path):
    other = [*SMALL[:-1], "2"]
    assert main(["--out", str(tmp_path), *other]) == 0
    assert files_below(tmp_path) == files_below(tree)


def test_another_seed_gives_another_world():
    pictures = [Drive(seed, 3, Rig(96, 32), samples=1).picture(1).astype(float) for seed in (1, 2)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 10


def test_files_lie_as_in_kitti_raw(tree):
    day = tree / "2000_01_01"
    for number in (1, 2):
        folder = day / f"2000_01_01_drive_{number:04d}_sync"
        for frame in range(3):
            for camera in ("image_02", "image_03"):
                with Image.open(folder / camera / "data" / f"{frame:010d}.jpg") as image:
                    assert image.size == (96, 32) and image.format == "JPEG"
            scan = np.fromfile(folder / "velodyne_points" / "data" / f"{frame:010d}.bin", np.float32).reshape(-1, 4)
            assert len(scan) > 300 and scan[:, 0].min() > 0 and 0 <= scan[:, 3].min() <= scan[:, 3].max() <= 1
    calibration = kitti_utils.read_calib_file(str(day / "calib_cam_to_cam.txt"))
    projection = calibration["P_rect_03"].reshape(3, 4)
    assert tuple(calibration["S_rect_02"]) == (96, 32)
    assert projection[0, 0] == pytest.approx(0.58 * 96) and projection[1, 1] == pytest.approx(1.92 * 32)
    assert projection[0, 3] == pytest.approx(-BASELINE * projection[0, 0])
    assert sorted(os.listdir(tree)) == ["2000_01_01", "splits"]


def test_split_lines_name_files_that_are_there(tree):
    split = tree / "splits" / "synthetic"
    lines = {part: (split / f"{part}_files.txt").read_text().splitlines() for part in ("train", "val", "test")}
    assert lines["train"] == [f"2000_01_01/2000_01_01_drive_0001_sync 1 {side}" for side in "lr"]
    assert len(lines["test"]) == 3 and all("0002_sync" in line for line in lines["test"])
    for line in sum(lines.values(), []):
        folder, frame, side = line.split()
        assert (tree / folder / kitti_utils.CAMERAS[side] / f"{int(frame):010d}.jpg").is_file()


def test_training_and_validation_lines_share_no_frame_and_keep_their_neighbours():
    lines = writer.split_lines({"drives": 2, "frames": 40, "scan_every": 4})
    assert not set(lines["train"]) & set(lines["val"]) and lines["val"]
    frames = [int(line.split()[1]) for line in lines["train"] + lines["val"]]
    assert min(frames) == 1 and max(frames) == 38
    assert [int(line.split()[1]) for line in lines["test"]] == list(range(0, 40, 4))


@pytest.mark.parametrize("forward_distance", [False, True])
def test_projected_scans_equal_the_dense_depth(tree, forward_distance):
    scan = tree / "2000_01_01" / "2000_01_01_drive_0002_sync" / "velodyne_points" / "data" / "0000000001.bin"
    sparse = kitti_utils.generate_depth_map(str(tree / "2000_01_01"), str(scan), 2, forward_distance)
    dense = dense_depth(str(tree), 2, 1)
    hit = sparse > 0
    assert sparse.shape == dense.shape and hit.mean() > 0.15
    np.testing.assert_allclose(sparse[hit], dense[hit], rtol=1e-4)


def test_scans_also_fit_the_right_camera(tree):
    scan = tree / "2000_01_01" / "2000_01_01_drive_0002_sync" / "velodyne_points" / "data" / "0000000001.bin"
    sparse = kitti_utils.generate_depth_map(str(tree / "2000_01_01"), str(scan), 3, False)
    dense = dense_depth(str(tree), 2, 1, "r")
    hit = (sparse > 0) & np.isfinite(dense)
    assert np.median(np.abs(sparse[hit] / dense[hit] - 1)) < 0.03  # but for pixels' rounding and hidden points


def test_poses_on_disk_are_those_of_the_drive(tree):
    poses = read_poses(str(tree), 1)
    np.testing.assert_allclose(poses, Drive(1, 3, Rig(96, 32)).poses, atol=1e-8)
    rotation = poses[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-8)
    assert np.linalg.det(rotation) == pytest.approx(1)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert steps.min() > 0.3 and steps.max() < 0.5


def test_the_left_picture_is_the_right_one_moved_by_the_true_disparity(drive):
    left, right, depth = drive.picture(1) / 255, drive.picture(1, "r") / 255, drive.depth(1)
    right_from_left = np.linalg.inv(drive.world_from_camera(1, "r")) @ drive.world_from_camera(1)
    moved, inside = warp(drive, right, depth, right_from_left)
    seen = inside & (np.abs(1 / depth - inverse_there(drive, depth, 1, "r")) < 0.003)
    assert seen.mean() > 0.5
    error, still = np.abs(moved - left).mean(-1), np.abs(right - left).mean(-1)
    assert error[seen].mean() < 0.02 and error[seen].mean() < 0.25 * still[seen].mean()


def inverse_there(drive, depth, frame, side):
    """Inverse depth that the other camera sees where each left pixel lands, in the left pixel's place."""
    other = 1 / drive.depth(frame, side)
    motion = np.linalg.inv(drive.world_from_camera(frame, side)) @ drive.world_from_camera(1)
    return warp(drive, other[..., None], depth, motion)[0][..., 0]


def test_the_next_picture_moves_into_this_one_by_true_depth_and_pose(drive):
    here, ahead, depth = drive.picture(1) / 255, drive.picture(2) / 255, drive.depth(1)
    motion = np.linalg.inv(drive.world_from_camera(2)) @ drive.world_from_camera(1)
    moved, inside = warp(drive, ahead, depth, motion)
    error, still = np.abs(moved - here).mean(-1)[inside], np.abs(ahead - here).mean(-1)[inside]
    assert error.mean() < 0.03 and error.mean() < 0.5 * still.mean()


def test_the_photometric_error_falls_towards_the_true_depth_from_afar(drive):
    here, ahead, depth = drive.picture(1) / 255, drive.picture(2) / 255, drive.depth(1)
    motion = np.linalg.inv(drive.world_from_camera(2)) @ drive.world_from_camera(1)

    def error(factor):
        moved, inside = warp(drive, ahead, depth * factor, motion)
        return np.abs(moved - here).mean(-1)[inside].mean()

    below, above = [error(f) for f in (0.5, 0.7, 0.85, 1.0)], [error(f) for f in (1.0, 1.2, 1.6, 2.5)]
    assert below == sorted(below, reverse=True) and above == sorted(above)


def test_depth_is_not_told_by_the_row_alone(drive):
    depth = drive.depth(2)
    rows = depth[32:56]  # below the horizon, inside the evaluation's crop
    flat = np.abs(rows.mean(1, keepdims=True) / rows - 1)
    assert flat.mean() > 0.15


def test_the_road_lies_where_the_camera_height_says(drive):
    rig, depth = drive.rig, drive.depth(1)
    column, row = rig.width // 2, rig.height - 4
    ray = drive.poses[1][:3, :3] @ [(column - rig.centre[0]) / rig.focal[0], (row - rig.centre[1]) / rig.focal[1], 1]
    assert depth[row, column] == pytest.approx(-drive.poses[1][1, 3] / ray[1], rel=1e-5)


def test_road_places_and_their_location_agree():
    road = Road(np.random.default_rng(0), -10, 200)
    for s, d in ((0.0, 0.0), (20.0, 3.0), (60.0, -8.0)):
        (x, z), _ = road.place(s, d)
        found = road.locate(np.array([x]), np.array([z]))
        assert found[0][0] == pytest.approx(s, abs=0.15) and found[1][0] == pytest.approx(d, abs=0.05)


def test_pose_axes_are_right_down_forward():
    np.testing.assert_allclose(pose((0, 0), 0.0)[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(pose((0, 0), np.pi / 2)[:3, 2], [1, 0, 0], atol=1e-12)
    assert pose((0, 0), 0.0, pitch=0.1)[1, 2] < 0  # up is -y


def test_textures_lose_their_contrast_with_distance():
    store = TextureStore()
    checks = np.indices((64, 64)).sum(0) % 2
    number = store.add(np.repeat(checks[..., None], 3, 2))
    store.freeze()
    u = np.random.default_rng(0).uniform(8, 56, (2, 500)).astype(np.float32)
    contrast = []
    for extent in (0.5, 8.0):
        size = np.full(500, extent, np.float32)
        contrast.append(store.look_up(np.full(500, number), u[0], u[1], size, size).std())
    assert contrast[0] > 0.1 and contrast[1] < 0.01


def test_a_second_run_leaves_the_files_alone_and_force_writes_them_again(tree, capsys):
    manifest = tree / "2000_01_01" / writer.MANIFEST
    before = manifest.stat().st_mtime_ns
    assert main(["--out", str(tree), *SMALL]) == 0
    assert "already there" in capsys.readouterr().out and manifest.stat().st_mtime_ns == before
    assert main(["--out", str(tree), *SMALL, "--force"]) == 0
    assert manifest.stat().st_mtime_ns != before


@pytest.mark.parametrize(
    "arguments",
    [["--frames", "2"], ["--width", "0"], ["--step", "nan"], ["--step", "-1"], ["--samples", "x"], ["--seed", "-1"]],
)
def test_bad_numbers_are_one_line(arguments, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "new"), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and arguments[0] in message
    assert not (tmp_path / "new").exists()


def test_an_output_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file" / "below"), *SMALL]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


def test_a_folder_of_someone_else_is_not_replaced(tmp_path, capsys):
    (tmp_path / "2000_01_01").mkdir()
    (tmp_path / "2000_01_01" / "mine").write_text("dear")
    assert main(["--out", str(tmp_path), *SMALL, "--force"]) == 2
    assert "something else" in capsys.readouterr().err
    assert (tmp_path / "2000_01_01" / "mine").read_text() == "dear"


def test_help_is_torch_free():
    code = "import sys, demo.street.__main__ as m; m.parser().format_help(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
