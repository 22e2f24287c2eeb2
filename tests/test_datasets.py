"""Items: equal to the reference, mirrored and jittered as told, a pure function of seed, epoch and index."""

import functools
import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from datasets import KITTIDepthDataset, KITTIOdomDataset, KITTIRAWDataset, images, jitter, lanczos
from datasets.mono_dataset import stereo_transform
from datasets.on_device import resize_by_products
from system.errors import UserError

ROOT = Path(__file__).parent.parent
DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
HEIGHT, WIDTH = 32, 96
CAMERAS = "S_rect_02: 120 40\nR_rect_00: 1 0 0 0 1 0 0 0 1\n" + "".join(
    f"P_rect_0{cam}: 60 0 60 {shift} 0 60 20 0 0 0 1 0\n" for cam, shift in ((2, 0), (3, -32))
)
VELODYNE = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n"


def picture(seed, height=40, width=120):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [127 + 100 * np.sin(x / (4 + c) + seed + c) * np.cos(y / (5 + c)) for c in range(3)]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


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


# --- jitter --------------------------------------------------------------------------------------------------------

OPERATIONS = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def colours():
    """Random colours, greys, black, white, equal channels."""
    x = torch.rand(6, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    x[0], x[1], x[2], x[3, 0] = 0, x[1, :1], 1, x[3, 1]
    return x


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_jitter_equals_torchvision(order):
    factors = (1.13, 0.87, 1.19, -0.08)
    for image in colours():
        expected = functools.reduce(lambda x, k: OPERATIONS[k](x, factors[k]), order, image)
        torch.testing.assert_close(jitter.apply(image, jitter.steps(*factors, order)), expected, atol=3e-6, rtol=0)


def test_jitter_of_a_batch_equals_that_of_its_images():
    tables = np.stack([jitter.draw(np.random.default_rng(seed)) for seed in range(5)] + [np.float32(jitter.NONE)])
    batch = jitter.apply_batch(colours(), torch.from_numpy(tables))
    for image, table, expected in zip(colours(), tables, batch, strict=True):
        torch.testing.assert_close(jitter.apply(image, table), expected, atol=1e-6, rtol=0)


def test_jitter_draws_the_published_ranges():
    tables = np.stack([jitter.draw(np.random.default_rng(seed)) for seed in range(3000)])
    gains = tables[..., 0][tables[..., 0] != 1]
    hues = tables[..., 3].sum(1)
    assert 0.8 <= gains.min() < 0.801 and 1.199 < gains.max() <= 1.2 and gains.mean() == pytest.approx(1, abs=0.01)
    assert -0.1 <= hues.min() < -0.099 and 0.099 < hues.max() <= 0.1
    position = (tables[..., 3] != 0).argmax(1)
    np.testing.assert_allclose(np.bincount(position) / 3000, 0.25, atol=0.04)


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


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
def test_odd_images_become_rgb(tmp_path, mode):
    path = tmp_path / ("odd.tif" if mode == "CMYK" else "odd.png")
    picture(0).convert(mode).save(path)
    image = images.read_rgb(path)
    assert image.mode == "RGB" and image.size == (120, 40)


def test_sixteen_bits_become_eight(tmp_path):
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(images.read_rgb(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 255]


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


# --- Lanczos -------------------------------------------------------------------------------------------------------

SIZES = (
    ((375, 1242), (192, 640)),
    ((370, 1224), (96, 320)),
    ((192, 640), (96, 320)),
    ((61, 97), (33, 40)),
    ((7, 9), (3, 5)),
    ((20, 30), (64, 96)),
    ((30, 50), (30, 20)),
    ((30, 50), (12, 50)),
)


@pytest.mark.parametrize(("size", "new_size"), SIZES)
@pytest.mark.parametrize("kind", ["noise", "extremes", "white"])
def test_resizing_equals_pillow_to_the_bit(size, new_size, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    pixels = {"noise": pixels, "extremes": (pixels & 1) * np.uint8(255), "white": pixels | 255}[kind]
    expected = Image.fromarray(pixels).resize(new_size[::-1], Image.Resampling.LANCZOS)
    resized = images.planes(pixels, *new_size)
    assert resized.dtype == np.float32
    np.testing.assert_array_equal(resized.transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("span", [90, 400])
def test_resizing_equals_pillow_for_sizes_of_all_shapes(span):
    random = np.random.default_rng(span)
    orders = set()
    for _ in range(60):
        size, new_size = (tuple(map(int, random.integers(1, span, 2))) for _ in range(2))
        pixels = random.integers(0, 2, (*size, 3), np.uint8) * np.uint8(255)
        expected = np.asarray(Image.fromarray(pixels).resize(new_size[::-1], Image.Resampling.LANCZOS))
        resized = images.planes(pixels, *new_size).transpose(1, 2, 0)
        np.testing.assert_array_equal(resized, expected, f"{size} to {new_size}")
        planes = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))[None]
        on_device = resize_by_products(planes, *new_size)[0].permute(1, 2, 0)
        np.testing.assert_array_equal(on_device.numpy(), expected, f"{size} to {new_size}, on the device")
        orders.add(lanczos.columns_first(size, new_size))
    assert orders == ({False} if lanczos.ONE_ORDER else {False, True})


def test_jpeg_decoders_agree(raw, kitti_sample):
    path = kitti_sample / "kitti_raw" / DRIVE / "image_02" / "data" / "0000000005.jpg"
    np.testing.assert_array_equal(images.read_pixels(path), np.asarray(images.read_rgb(path)))
    grey = raw / "grey.jpg"
    picture(0).convert("L").save(grey)
    np.testing.assert_array_equal(images.read_pixels(grey), np.asarray(images.read_rgb(grey)))
    picture(0).convert("CMYK").save(grey)
    np.testing.assert_array_equal(images.read_pixels(grey), np.asarray(images.read_rgb(grey)))


def test_pipes_and_images_beyond_the_limit_are_refused_before_decoding(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="not a regular file"):
        images.read_pixels(tmp_path / "pipe.jpg")
    for name in ("large.png", "large.jpg"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)
        monkeypatch.setattr(images, "LARGEST", 19_999)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)
        with pytest.raises(UserError, match="an image of more than 200 million pixels"):
            images.read_pixels(tmp_path / name)
        monkeypatch.undo()
        assert images.read_pixels(tmp_path / name).shape == (100, 200, 3)


def test_a_jpegs_size_is_read_from_its_header(tmp_path):
    for progressive in (False, True):
        Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg", progressive=progressive, exif=b"Exif\0\0" + bytes(50))
        assert images._jpeg_pixels((tmp_path / "a.jpg").read_bytes()) == 20_000
    assert images._jpeg_pixels(b"") == images._jpeg_pixels(b"\xff\xd8\xff\xe0\0\0" * 3) == 0
