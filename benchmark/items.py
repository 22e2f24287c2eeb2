"""The job of `benchmark.worker` that makes the items of a short made-up drive, as one worker process of a loader."""

import os

import numpy as np
import torch
from PIL import Image

from benchmark.plain import items
from datasets import KITTIRAWDataset
from datasets.cache import FrameCache
from kitti_utils import CAMERAS, frame_path

VERSIONS = ("plain", "files", "cache")
DRIVE = "made_up/drive_sync"
FRAMES = 6
COUNT = FRAMES - 2  # frames that have both neighbours
NATIVE = (375, 1242)  # height and width of KITTI's images
CACHE_REPEATS = 20  # one pass over so few items would be too short to time


def write_drive(folder):
    """Write the images of the drive in KITTI raw's layout."""
    os.makedirs(os.path.dirname(image_path(folder, 0)))
    rng = np.random.default_rng(0)
    for frame in range(FRAMES):
        coarse = Image.fromarray(rng.integers(0, 255, (47, 155, 3), dtype=np.uint8))
        image = coarse.resize(NATIVE[::-1], Image.Resampling.BICUBIC)
        image.save(image_path(folder, frame), quality=92, subsampling="4:2:0")


def image_path(folder, frame):
    """Return where an image of the drive is."""
    return frame_path(folder, DRIVE, CAMERAS["l"], frame, ".jpg")


def make(version, folder):
    """Return the function that makes all items once (the cached ones `CACHE_REPEATS` times), and the device."""
    torch.set_num_threads(1)
    return {"plain": _plain, "files": _files, "cache": _cached}[version](folder), torch.device("cpu")


def _plain(folder):
    rng = items.random_numbers(0)

    def run():
        for frame in range(1, FRAMES - 1):
            paths = {offset: image_path(folder, frame + offset) for offset in (0, -1, 1)}
            items.load_item(paths, 192, 640, rng)

    return run


def _dataset(folder, **more):
    keys = {("color", frame, 0) for frame in (0, -1, 1)} | {("color_aug", frame, 0) for frame in (0, -1, 1)}
    keys |= {("color", 0, 1), ("color", 0, 2)}
    lines = [f"{DRIVE} {frame} l" for frame in range(1, FRAMES - 1)]
    return KITTIRAWDataset(folder, lines, 192, 640, (0, -1, 1), 3, is_train=True, keys=keys, **more)


def _files(folder):
    dataset, epochs = _dataset(folder), iter(range(1_000_000))

    def run():
        dataset.set_epoch(next(epochs))
        for index in range(len(dataset)):
            dataset[index]

    return run


def _cached(folder):
    """The arithmetic is left to the training device."""
    dataset = _dataset(folder, on_device=True)
    FrameCache.open("ram", dataset, quiet=True)

    def run():
        for _ in range(CACHE_REPEATS):
            for index in range(len(dataset)):
                dataset[index]

    return run
