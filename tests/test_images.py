"""Images as arrays: decoding, Lanczos to the bit, colour jitter."""

import functools
import itertools
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from datasets import images, jitter, lanczos
from datasets.on_device import resize_by_products
from system.errors import UserError
from tests.pictures import picture

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
def test_odd_images_become_rgb(tmp_path, mode):
    path = tmp_path / ("odd.tif" if mode == "CMYK" else "odd.png")
    picture(0).convert(mode).save(path)
    image = images.read_rgb(path)
    assert image.mode == "RGB" and image.size == (120, 40)


def test_sixteen_bits_become_eight(tmp_path):
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(images.read_rgb(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 255]


def test_jpeg_decoders_agree(tmp_path, kitti_sample):
    path = kitti_sample / "kitti_raw" / DRIVE / "image_02" / "data" / "0000000005.jpg"
    np.testing.assert_array_equal(images.read_pixels(path), np.asarray(images.read_rgb(path)))
    grey = tmp_path / "grey.jpg"
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


# --- Lanczos ---------------------------------------------------------------------------------------------------------

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


# --- jitter ----------------------------------------------------------------------------------------------------------

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
