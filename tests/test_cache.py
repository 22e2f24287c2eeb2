"""The cache gives bit-equal items, is whole or absent, notices changes, and survives rivals and kill -9."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datasets import KITTIRAWDataset, cache, cache_folder, jitter, on_device
from datasets.cache_contents import CacheContents
from system import memory
from system.errors import UserError
from tests.rounded_products import RoundedProducts

ROOT = Path(__file__).parent.parent
DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
HEIGHT, WIDTH = 32, 96


@pytest.fixture
def raw(tmp_path):
    rng = np.random.default_rng(0)
    for camera in (2, 3):
        folder = tmp_path / "raw" / DRIVE / f"image_0{camera}" / "data"
        folder.mkdir(parents=True)
        for frame in range(6):
            Image.fromarray(rng.integers(0, 256, (40, 120, 3), np.uint8)).save(folder / f"{frame:010d}.png")
    return tmp_path / "raw"


def make(raw, frames=(0, -1, 1, "s"), lines=None, is_train=True, **options):
    lines = lines or [f"{DRIVE} {frame} {side}" for frame in (1, 2, 3, 4) for side in "lr"]
    return KITTIRAWDataset(raw, lines, HEIGHT, WIDTH, frames, 3, is_train, ".png", **options)


def assert_same_items(one, other):
    for epoch in range(3):
        for index in range(len(one)):
            expected, found = one[epoch, index], other[epoch, index]
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[key], found[key]) for key in expected)


def image_file(raw, frame=1, camera=2):
    return raw / DRIVE / f"image_0{camera}" / "data" / f"{frame:010d}.png"


def open_cache(where, *datasets, **options):
    return cache.FrameCache.open(where, *datasets, quiet=True, **options)


@pytest.fixture(params=["folder", "ram"])
def where(request, tmp_path):
    return "ram" if request.param == "ram" else str(tmp_path / "cache")


@pytest.mark.parametrize("workers", [0, 2])
def test_items_are_bit_equal(raw, where, workers):
    cached = make(raw)
    open_cache(where, cached, workers=workers)
    assert_same_items(make(raw), cached)


def test_cached_items_read_no_file(raw, where):
    plain, cached = make(raw, is_train=False), make(raw, is_train=False)
    expected = [plain[index] for index in range(len(plain))]
    open_cache(where, cached)
    for camera in (2, 3):
        for frame in range(6):
            image_file(raw, frame, camera).unlink()
    assert all(torch.equal(expected[i][key], cached[i][key]) for i in range(len(plain)) for key in expected[i])


def test_other_processes_read_it(raw, where):
    cached = make(raw)
    open_cache(where, cached)
    assert_same_items(make(raw), pickle.loads(pickle.dumps(cached)))
    method = "spawn" if where == "ram" else "fork"
    batch = next(iter(DataLoader(cached, batch_size=8, num_workers=1, multiprocessing_context=method)))
    assert torch.equal(batch["color", 0, 0][3], make(raw)[0, 3]["color", 0, 0])


def test_training_and_validation_share_one(raw, where):
    train, val = make(raw), make(raw, lines=[f"{DRIVE} 2 l", f"{DRIVE} 3 r"], is_train=False, frames=(0, "s"))
    shared = open_cache(where, train, val)
    assert shared.shape == (12, 3, HEIGHT, WIDTH)
    assert_same_items(make(raw, lines=[f"{DRIVE} 2 l", f"{DRIVE} 3 r"], is_train=False, frames=(0, "s")), val)
    with pytest.raises(ValueError, match="cannot share"):
        open_cache(where, train, KITTIRAWDataset(raw, [f"{DRIVE} 2 l"], 64, WIDTH, (0,), 1, img_ext=".png"))


def test_second_opening_builds_nothing(raw, tmp_path, monkeypatch):
    open_cache(tmp_path / "cache", make(raw))
    monkeypatch.setattr(cache_folder, "_build", None)
    cached = make(raw)
    open_cache(tmp_path / "cache", cached)
    assert_same_items(make(raw), cached)


def test_size_is_said_before(raw, where, caplog):
    with caplog.at_level("INFO"):
        open_cache(where, make(raw))
    assert caplog.messages[0] == "cache: 12 frames at 96x32, 0.00 GB"
    lines = [f"{DRIVE} {frame} l" for frame in range(1, 44_561)]
    dataset = KITTIRAWDataset(raw, lines, 192, 640, (0, -1, 1), 1)
    assert CacheContents([dataset]).size_text() == "44562 frames at 640x192, 16.43 GB"


def test_no_room_is_a_user_error(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 1000)
    with pytest.raises(UserError, match="not enough memory for the cache; 12 frames at 96x32"):
        open_cache("ram", make(raw))
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda _: type("usage", (), {"free": 1000}))
    with pytest.raises(UserError, match="not enough room for the cache"):
        open_cache(tmp_path / "cache", make(raw))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        open_cache(tmp_path / "file" / "cache", make(raw))


def test_unreadable_frames_stay_with_their_files(raw, where, caplog):
    image_file(raw, 1).unlink()
    image_file(raw, 5, 3).write_bytes(b"nonsense")
    cached = make(raw)
    open_cache(where, cached)
    assert "cache: 2 of 12 frames cannot be read and are left out" in caplog.messages
    with pytest.raises(UserError, match="missing image; .*image_02.*split line 1"):
        cached[0, 0]
    assert torch.equal(cached[0, 4]["color", 0, 0], make(raw)[0, 4]["color", 0, 0])


def test_another_process_adopts_a_cache_in_memory(raw):
    image_file(raw, 5, 3).unlink()
    first, second = make(raw), make(raw)
    place = open_cache("ram", first).place()
    cache.FrameCache.adopt(place, second)
    assert np.array_equal(first.cache.rows, second.cache.rows)
    assert torch.equal(first[0, 3]["color", 0, 0], second[0, 3]["color", 0, 0])


def test_building_and_finding_leave_torchs_generator_alone(raw, where):
    torch.manual_seed(3)
    expected = torch.rand(1)
    for workers in (0, 1):
        for _ in ("built", "found"):
            torch.manual_seed(3)
            open_cache(where, make(raw), workers=workers)
            assert torch.equal(torch.rand(1), expected)


def test_a_cache_cut_off_in_use_is_one_line(raw, tmp_path):
    cached = make(raw)
    open_cache(tmp_path / "cache", cached)
    item = cached[0, 3]["color", 0, 0]
    frames = built(tmp_path) / cache_folder.FRAMES
    os.truncate(frames, frames.stat().st_size // 4)
    with pytest.raises(UserError, match="the cache was cut off while it was in use"):
        [cached[0, index] for index in range(len(cached))]
    os.truncate(frames, 0)
    with pytest.raises(UserError, match="cut off"):
        pickle.loads(pickle.dumps(cached))[0, 3]
    open_cache(tmp_path / "cache", cached)
    assert torch.equal(cached[0, 3]["color", 0, 0], item)


@pytest.mark.parametrize("values", [np.zeros((12, 3)), np.zeros(11, np.int64), np.array(["x"] * 12)])
def test_an_index_of_another_shape_or_kind_is_built_again(raw, tmp_path, caplog, values):
    open_cache(tmp_path / "cache", make(raw))
    with np.load(built(tmp_path) / cache_folder.INDEX) as content:
        index = dict(content)
    np.savez(built(tmp_path) / cache_folder.INDEX, **index | {"crc": values})
    assert "building" in reopened(raw, tmp_path, caplog)


# --- what makes it build again -------------------------------------------------------------------------------------


def built(tmp_path):
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    return folder


def reopened(raw, tmp_path, caplog):
    """Open again; return what is said about the state that was found."""
    caplog.clear()
    with caplog.at_level("INFO"):
        cached = make(raw)
        open_cache(tmp_path / "cache", cached)
    assert_same_items(make(raw), cached)
    return caplog.messages[1]


def test_damage_is_noticed_and_put_right(raw, tmp_path, caplog):
    open_cache(tmp_path / "cache", make(raw))
    frames = built(tmp_path) / cache_folder.FRAMES
    content = bytearray(frames.read_bytes())
    content[5 * 3 * HEIGHT * WIDTH + 7] ^= 1
    frames.write_bytes(content)
    assert "a checksum differs" in reopened(raw, tmp_path, caplog)
    frames.write_bytes(content[:-1])
    assert "of the wrong size" in reopened(raw, tmp_path, caplog)
    (built(tmp_path) / cache_folder.INDEX).write_bytes(b"nonsense")
    assert "damaged" in reopened(raw, tmp_path, caplog)
    about = json.loads((built(tmp_path) / cache_folder.ABOUT).read_text()) | {"version": 0}
    (built(tmp_path) / cache_folder.ABOUT).write_text(json.dumps(about))
    assert "made of something else" in reopened(raw, tmp_path, caplog)
    assert "found in" in reopened(raw, tmp_path, caplog)


def test_changed_image_is_noticed(raw, tmp_path, caplog):
    open_cache(tmp_path / "cache", make(raw))
    Image.fromarray(np.zeros((40, 120, 3), np.uint8)).save(image_file(raw, 3))
    assert "older than the images" in reopened(raw, tmp_path, caplog)


def test_copied_images_are_no_reason_to_build_again(raw, tmp_path, caplog):
    open_cache(tmp_path / "cache", make(raw))
    os.utime(image_file(raw, 3), ns=(1, 1))
    assert "found in" in reopened(raw, tmp_path, caplog)


def test_repaired_image_is_noticed(raw, tmp_path, caplog):
    whole = image_file(raw, 3).read_bytes()
    image_file(raw, 3).unlink()
    open_cache(tmp_path / "cache", make(raw))
    image_file(raw, 3).write_bytes(whole)
    assert "older than the images" in reopened(raw, tmp_path, caplog)


def test_size_split_and_data_have_caches_of_their_own(raw, tmp_path):
    open_cache(tmp_path / "cache", make(raw))
    open_cache(tmp_path / "cache", make(raw, lines=[f"{DRIVE} 2 l"]))
    open_cache(tmp_path / "cache", KITTIRAWDataset(raw, [f"{DRIVE} 2 l"], 64, WIDTH, (0,), 1, img_ext=".png"))
    raw.rename(raw.parent / "moved")
    open_cache(tmp_path / "cache", make(raw.parent / "moved"))
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 4


# --- rivals and sudden death ---------------------------------------------------------------------------------------

BUILDER = """
import sys, time
from datasets import KITTIRAWDataset, cache
raw, where, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
class Slow(KITTIRAWDataset):
    def load_frame(self, *frame):
        time.sleep(pause)
        return super().load_frame(*frame)
Slow.__module__, Slow.__qualname__ = KITTIRAWDataset.__module__, KITTIRAWDataset.__qualname__
lines = [f"2011_09_26/2011_09_26_drive_0001_sync {f} {s}" for f in (1, 2, 3, 4) for s in "lr"]
cache.FrameCache.open(where, Slow(raw, lines, 32, 96, (0, -1, 1, "s"), 3, True, ".png"), workers=int(sys.argv[4]))
"""


def start_builder(raw, where, pause, workers=0):
    command = [sys.executable, "-c", BUILDER, str(raw), str(where), str(pause), str(workers)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def wait_for_partial(where, process):
    for _ in range(600):
        if where.is_dir() and any(path.name.startswith(".frames") for path in where.iterdir()):
            return
        assert process.poll() is None
        time.sleep(0.05)
    raise AssertionError("the builder never began")


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_builder_leaves_no_cache_and_no_rubbish(raw, tmp_path, workers):
    where = tmp_path / "cache"
    process = start_builder(raw, where, 0.5, workers)
    wait_for_partial(where, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cached = make(raw)
    open_cache(where, cached)
    assert_same_items(make(raw), cached)
    assert sorted(path.name[:7] for path in where.iterdir()) == [".lock", "frames_"]


def test_rivals_build_once(raw, tmp_path, caplog):
    where = tmp_path / "cache"
    process = start_builder(raw, where, 0.1)
    wait_for_partial(where, process)
    with caplog.at_level("INFO"):
        cached = make(raw)
        open_cache(where, cached)
    assert process.wait() == 0
    assert f"another process is building a cache in {where}; waiting for it" in caplog.messages
    assert "found in" in caplog.messages[-1]
    assert_same_items(make(raw), cached)


# --- on the training device ----------------------------------------------------------------------------------------


def batches(dataset, epoch):
    return torch.utils.data.default_collate([dataset[epoch, index] for index in range(len(dataset))])


@pytest.mark.parametrize("keys", [None, {("color", 0, 0), ("color", 0, 2), ("color", 1, 0), ("color_aug", 0, 0)}])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_completed_batch_equals_the_items(raw, keys, per_image, cached):
    plain = make(raw, keys=keys, jitter_per_image=per_image)
    deferred = make(raw, keys=keys, jitter_per_image=per_image, on_device=True)
    if cached:
        open_cache("ram", deferred)
    for epoch in range(2):
        expected, batch = batches(plain, epoch), batches(deferred, epoch)
        assert all(value.dtype == torch.uint8 for key, value in batch.items() if key[0] == "color")
        found = on_device.complete(batch, deferred.wanted)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value)


def test_other_batches_pass_through(raw):
    batch = batches(make(raw), 0)
    assert on_device.complete(batch, make(raw).wanted) is batch


def test_device_arithmetic_equals_that_of_the_loader(raw):
    """The operations that a GPU uses, run on the CPU."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 48, 130))).float()
    for height, width in ((24, 65), (17, 130), (48, 40), (80, 200)):
        expected = on_device.resize(images, height, width)
        assert torch.equal(on_device.resize_by_products(images, height, width), expected)
        with RoundedProducts() if height <= 48 and width <= 130 else contextlib.nullcontext():  # as a GPU may
            assert torch.equal(on_device.resize_by_products(images, height, width), expected)
    tables = torch.from_numpy(np.stack([jitter.draw(np.random.default_rng(seed)) for seed in range(2)]))
    expected = on_device._jittered(images / 255, tables, None)
    torch.testing.assert_close(jitter.apply_batch(images / 255, tables), expected, atol=1e-6, rtol=0)


# --- cost ----------------------------------------------------------------------------------------------------------


def test_cost_grows_linearly_and_little_with_the_split(tmp_path):
    def seconds(count):
        lines = [f"{DRIVE} {number // 2 + 1} {'lr'[number % 2]}" for number in range(count)]
        start = time.process_time()
        dataset = KITTIRAWDataset(tmp_path, lines, 192, 640, (0, -1, 1), 3, True)
        contents = CacheContents([dataset])
        cache.FrameCache("", contents.frames, np.ones(len(contents.frames), bool), contents.shape).attach(dataset)
        return time.process_time() - start

    seconds(1000)  # what is done once
    small, large = (min(seconds(count) for _ in range(2)) for count in (10_000, 100_000))
    assert large < 30 * small  # tenfold, with room for a busy machine
    assert large < 8
