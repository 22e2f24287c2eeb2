"""Items: equal to the reference, mirrored and jittered as told, a pure function of seed, epoch and index."""

import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from datasets import KITTIDepthDataset, KITTIOdomDataset, KITTIRAWDataset, images, jitter
from datasets.mono_dataset import stereo_transform
from system.errors import UserError
from tests.pictures import picture

ROOT = Path(__file__).parent.parent
DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
HEIGHT, WIDTH = 32, 96
CAMERAS = "S_rect_02: 120 40\nR_rect_00: 1 0 0 0 1 0 0 0 1\n" + "".join(
    f"P_rect_0{cam}: 60 0 60 {shift} 0 60 20 0 0 0 1 0\n" for cam, shift in ((2, 0), (3, -32))
)
VELODYNE = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n"


@pytest.fixture
def raw(tmp_path):
    """A KITTI raw drive of five frames, one of them with a scan."""
    for camera in (2, 3):
        folder = tmp_path / DRIVE / f"image_0{camera}" / "data"
        folder.mkdir(parents=True)
        for frame in range(5):
            picture(10 * camera + frame).save(folder / f"{frame:010d}.png")
            picture(10 * camera + frame).save(folder / f"{frame:010d}.jpg", quality=92)
    scans = tmp_path / DRIVE / "velodyne_points" / "data"
    scans.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rng.uniform((4, -4, -1, 0), (12, 4, 1, 1), (500, 4)).astype("<f4").tofile(scans / "0000000002.bin")
    (tmp_path / "2011_09_26" / "calib_cam_to_cam.txt").write_text(CAMERAS)
    (tmp_path / "2011_09_26" / "calib_velo_to_cam.txt").write_text(VELODYNE)
    return tmp_path


def make(raw, lines=(f"{DRIVE} 2 l",), frames=(0, -1, 1), scales=3, **options):
    return KITTIRAWDataset(raw, list(lines), HEIGHT, WIDTH, list(frames), scales, **{"img_ext": ".png", **options})


def drawing(dataset, **wanted):
    """Return an epoch in which chance gives item 0 what is wanted: flip, jittered."""
    for epoch in range(200):
        flip, jitters = dataset.draw(epoch, 0)
        if {"flip": flip, "jittered": jitters[0] is not None} == wanted:
            return epoch
    raise AssertionError("never drawn")


# --- against the reference -----------------------------------------------------------------------------------------


def test_item_equals_the_reference(kitti_sample, published_reference):
    with np.load(published_reference / "item.npz") as figures:
        expected = dict(figures)
    dataset = KITTIRAWDataset(kitti_sample / "kitti_raw", [str(expected.pop("line"))], 192, 640, [0, -1, 1, "s"], 4)
    item = dataset[0]
    np.testing.assert_array_equal(item["stereo_T"], expected.pop("stereo_T"))
    for name, figure in expected.items():
        kind, *rest = name.split("_")
        if kind != "color":
            key = (name[:-2], int(name[-1]))
            np.testing.assert_allclose(item[key], figure, rtol=1e-6, atol=1e-9 if kind == "inv" else 0)
            continue
        frame, scale = rest[0] if rest[0] == "s" else int(rest[0]), int(rest[1])
        for kind in ("color", "color_aug"):
            colour = item[kind, frame, scale]
            assert colour.dtype == torch.float32 and colour.shape == (3, 192 >> scale, 640 >> scale)
            np.testing.assert_array_equal(colour[:, ::4, ::4], figure)


def test_odometry_and_improved_depth_of_the_sample(kitti_sample):
    odometry = KITTIOdomDataset(kitti_sample / "kitti_odom", ["4 7 l"], 96, 320, [0, 1, "s"], 1)
    assert odometry[0]["color", "s", 0].shape == (3, 96, 320) and "depth_gt" not in odometry[0]
    line = f"{DRIVE} 6 l"
    item = KITTIDepthDataset(kitti_sample / "kitti_raw", [line], 96, 320, [0], 1)[0]
    assert item["depth_gt"].shape == (1, 375, 1242)
    path = kitti_sample / "kitti_raw" / DRIVE / "proj_depth" / "groundtruth" / "image_02" / "0000000006.png"
    np.testing.assert_array_equal(item["depth_gt"][0].numpy() * 256, np.asarray(Image.open(path)))


# --- what an item holds --------------------------------------------------------------------------------------------


def test_item_has_the_conventional_keys_shapes_and_types(raw):
    item = make(raw, frames=(0, -1, 1, "s"))[0]
    colours = {(kind, f, s) for kind in ("color", "color_aug") for f in (0, -1, 1, "s") for s in range(3)}
    assert set(item) == colours | {(k, s) for k in ("K", "inv_K") for s in range(3)} | {"stereo_T", "depth_gt"}
    for key in colours:
        assert item[key].shape == (3, HEIGHT >> key[2], WIDTH >> key[2]) and item[key].is_contiguous()
        assert item[key].dtype == torch.float32 and item[key].min() >= 0 and item[key].max() <= 1
    np.testing.assert_allclose(item["K", 1] @ item["inv_K", 1], np.eye(4), atol=1e-5)
    assert item["K", 1][0].tolist() == pytest.approx([0.58 * 48, 0, 24, 0])
    assert item["K", 1][1].tolist() == pytest.approx([0, 1.92 * 16, 8, 0])


def test_only_what_is_asked_for_is_made(raw):
    keys = {("color", 0, 0), ("color", 0, 2), ("color_aug", 1, 0)}
    item = make(raw, keys=keys)[0]
    assert {key for key in item if "K" not in key[0]} == keys
    full = make(raw)[0]
    assert all(torch.equal(item[key], full[key]) for key in item)


def test_other_camera_and_neighbours_come_from_their_files(raw):
    item = make(raw, [f"{DRIVE} 2 r"], (0, -1, 1, "s"), 1)[0]
    for frame, seed in ((0, 32), (-1, 31), (1, 33), ("s", 22)):
        expected = picture(seed).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        assert torch.equal(item["color", frame, 0], tv.to_tensor(expected))


def test_batches_stack(raw):
    dataset = make(raw, [f"{DRIVE} {frame} {side}" for frame in (1, 2, 3) for side in "lr"], is_train=True)
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=6)))
    assert batch["color", 0, 0].shape == (6, 3, HEIGHT, WIDTH) and batch["depth_gt"].shape == (6, 1, 375, 1242)


def test_items_do_not_share_memory(raw):
    dataset = make(raw)
    dataset[0]["K", 0].zero_()
    assert dataset[0]["K", 0].any()


def test_depth_belongs_to_the_camera_and_is_zero_where_unknown(raw):
    dataset = make(raw, [f"{DRIVE} 2 l", f"{DRIVE} 2 r", f"{DRIVE} 3 l"], keys={"depth_gt"})
    left, right, none = (dataset[index]["depth_gt"] for index in range(3))
    assert (left > 0).sum() > 200 and not torch.equal(left, right) and not none.any()


def test_depth_is_left_out_where_there_are_no_scans(raw, tmp_path):
    other = f"{DRIVE[:-9]}0002_sync"
    (raw / DRIVE).rename(raw / other)
    assert "depth_gt" in make(raw, [f"{other} 2 l"])[0]
    for scan in (raw / other / "velodyne_points" / "data").iterdir():
        scan.unlink()
    (raw / other / "velodyne_points" / "data").rmdir()
    assert "depth_gt" not in make(raw, [f"{other} 2 l"])[0]


def test_improved_depth(raw):
    depth = np.zeros((375, 1242), np.uint16)
    depth[10, 20] = 2560
    folder = raw / DRIVE / "proj_depth" / "groundtruth" / "image_03"
    folder.mkdir(parents=True)
    Image.fromarray(depth).save(folder / "0000000002.png")
    dataset = KITTIDepthDataset(raw, [f"{DRIVE} 2 r", f"{DRIVE} 2 l"], HEIGHT, WIDTH, [0], 1)
    found = dataset[0]["depth_gt"]
    assert found.sum() == found[0, 10, 20] == 10 and not dataset[1]["depth_gt"].any()


def test_a_camera_of_ones_own(raw):
    class Own(KITTIRAWDataset):
        def intrinsics(self, folder):
            return np.array([[1, 0, 0.4, 0], [0, 2, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

    dataset = Own(raw, [f"{DRIVE} 2 l"], HEIGHT, WIDTH, [0], 2, is_train=True, img_ext=".png")
    straight, flipped = (dataset[drawing(dataset, flip=flip, jittered=False), 0]["K", 1] for flip in (False, True))
    assert straight[0, 2] == pytest.approx(0.4 * 48) and flipped[0, 2] == pytest.approx(0.6 * 48)
    assert straight[0, 0] == flipped[0, 0] == 48 and straight[1, 2] == flipped[1, 2]


def test_stereo_sign():
    assert [stereo_transform(side, flip)[0, 3].item() for side in "lr" for flip in (False, True)] == pytest.approx(
        [-0.1, 0.1, 0.1, -0.1]
    )


# --- chance --------------------------------------------------------------------------------------------------------


def test_flip_mirrors_the_whole_item(raw):
    dataset = make(raw, frames=(0, 1, "s"), is_train=True)
    plain = make(raw, frames=(0, 1, "s"))[0]
    item = dataset[drawing(dataset, flip=True, jittered=False), 0]
    for key in plain:
        if key[0] in ("color", "color_aug"):
            assert torch.equal(item[key], plain[key].flip(-1)), key
    assert torch.equal(item["depth_gt"], plain["depth_gt"].flip(-1))
    assert item["stereo_T"][0, 3] == -plain["stereo_T"][0, 3]
    assert item["K", 0][0, 2] == WIDTH / 2


def test_mirroring_and_resizing_commute():
    noise = np.random.default_rng(0).integers(0, 256, (375, 1242, 3), np.uint8)
    for size in ((192, 640), (320, 1024), (128, 416), (96, 320)):
        mirrored = images.planes(noise[:, ::-1], *size)
        np.testing.assert_array_equal(images.planes(noise, *size)[:, :, ::-1], mirrored)


def test_jitter_changes_only_what_the_networks_see(raw):
    dataset, plain = make(raw, is_train=True), make(raw)[0]
    epoch = drawing(dataset, flip=False, jittered=True)
    item, table = dataset[epoch, 0], dataset.draw(epoch, 0)[1][0]
    for frame, scale in itertools.product((0, -1, 1), range(3)):
        assert torch.equal(item["color", frame, scale], plain["color", frame, scale])
        expected = jitter.apply(plain["color", frame, scale], table)
        assert torch.equal(item["color_aug", frame, scale], expected)
        assert not torch.equal(expected, plain["color", frame, scale])


def test_one_jitter_per_item_or_one_per_image(raw):
    dataset = make(raw, is_train=True)
    shared = dataset.draw(drawing(dataset, flip=False, jittered=True), 0)[1]
    assert shared[0] is shared[-1] is shared[1]
    dataset = make(raw, is_train=True, jitter_per_image=True)
    own = dataset.draw(drawing(dataset, flip=False, jittered=True), 0)[1]
    assert not np.array_equal(own[0], own[1]) and not np.array_equal(own[0], own[-1])


def test_item_depends_on_seed_epoch_and_index_alone(raw):
    lines = [f"{DRIVE} 2 l"] * 2
    dataset, again = make(raw, lines, is_train=True, seed=5), make(raw, lines, is_train=True, seed=5)
    again[3, 1]
    torch.rand(3), np.random.rand(3)
    for key, value in dataset[7, 1].items():
        assert torch.equal(value, again[7, 1][key])
    again.set_epoch(7)
    assert torch.equal(again[1]["color_aug", 0, 0], dataset[7, 1]["color_aug", 0, 0])
    draws = {str(make(raw, lines, is_train=True, seed=s).draw(e, i)) for s in (1, 2) for e in range(9) for i in (0, 1)}
    assert len(draws) > 12  # of 36, a quarter of which is the plain item


def test_flips_and_jitters_come_half_of_the_time(raw):
    dataset = make(raw, is_train=True)
    draws = [dataset.draw(0, index) for index in range(2000)]
    assert np.mean([flip for flip, _ in draws]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([jitters[0] is not None for _, jitters in draws]) == pytest.approx(0.5, abs=0.05)


def test_without_training_nothing_is_drawn(raw):
    item = make(raw)[4, 0]
    assert torch.equal(item["color", 0, 0], item["color_aug", 0, 0])


# --- files ---------------------------------------------------------------------------------------------------------


def test_building_touches_no_image_and_a_missing_one_is_named(raw):
    dataset = make(raw, [f"{DRIVE} 2 l", f"{DRIVE} 4 r"])
    dataset[0]
    with pytest.raises(UserError, match=rf"missing image; .*image_03.*0000000005.png \(.*line 2, '{DRIVE} 4 r'\)"):
        dataset[1]
    with pytest.raises(UserError, match="no frame -1 beside frame 0, .*; split line 1"):
        make(raw, [f"{DRIVE} 0 l"])[0]


def test_damaged_images_are_named(raw):
    path = raw / DRIVE / "image_02" / "data" / "0000000002.jpg"
    whole = path.read_bytes()
    half = whole[: len(whole) // 2]
    for content, what in ((half, "damaged image"), (b"", "not an image"), (b"text" * 99, "not an image")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{what}; .*0000000002.jpg.*split line 1"):
            make(raw, img_ext="jpg")[0]
    png = path.with_suffix(".png")
    png.write_bytes(png.read_bytes()[:-200])
    with pytest.raises(UserError, match="damaged image"):
        make(raw)[0]


def test_jpeg_and_png_are_told_apart(raw):
    assert not torch.equal(make(raw, img_ext=".jpg")[0]["color", 0, 0], make(raw)[0]["color", 0, 0])


def test_odometry_wants_a_number(tmp_path):
    with pytest.raises(UserError, match="not an odometry sequence"):
        KITTIOdomDataset(tmp_path, [f"{DRIVE} 1 l"], HEIGHT, WIDTH, [0], 1)[0]


def test_malformed_lines_are_refused_at_once(raw):
    with pytest.raises(UserError, match="malformed split line; entry 2: 'nonsense'"):
        make(raw, [f"{DRIVE} 2 l", "nonsense"])


def test_dataset_travels_to_another_process(raw):
    dataset = make(raw)
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0]["color", 1, 1], dataset[0]["color", 1, 1])


def test_importing_the_package_loads_no_torch():
    code = "import datasets, datasets.splits, sys; assert 'torch' not in sys.modules; datasets.MonoDataset"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
