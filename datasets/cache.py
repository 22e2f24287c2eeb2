"""Frames decoded and resized once: a file of raw bytes at scale 0 that every process reads, on disk or in memory.

A cache holds each frame that the lines of some data sets touch, (3, height, width) uint8, losslessly. Below the folder
that the user names, each combination of data, split and size has a folder of its own: frames.u8 (the frames one after
another), index.npz (checksum and source of each), about.json. It appears whole or not at all; one process builds while
others wait; what a killed one leaves is swept away by the next. Without a folder ("ram") the file is an anonymous one
in memory.
"""

import functools
import hashlib
import json
import logging
import os
import shutil
import zlib

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from system import files
from system.errors import UserError, from_os_error
from system.locks import only_one
from system.progress import Progress

RAM = "ram"
VERSION = 1  # of the files; another number means: build again
FRAMES, INDEX, ABOUT = "frames.u8", "index.npz", "about.json"
INDEX_NAMES = ("crc", "readable", "stamps")
CHECKED = 64  # frames whose checksum is tried when a cache is opened
COMPARED = 16  # frames with a newer file that are decoded and compared
GIGABYTE = 1e9

log = logging.getLogger(__name__)


class FrameCache:
    """The frames of one or more data sets, which differ in lines and augmentation only.

    Use `open`, which builds what is missing, then hand out with `attach`.
    """

    def __init__(self, path, frames, readable, shape):
        self.path, self.shape = path, shape
        self._rows = {frame: row for row, frame in enumerate(frames) if readable[row]}

    @classmethod
    def open(cls, where, *datasets, workers=0, quiet=False):
        """Find the cache of these data sets or build it, check it, and attach it to them.

        Args:
            where: a folder, or "ram".
            datasets: `MonoDataset`s of one kind, root and size.
            workers: processes that build.
            quiet: no progress.

        Raises:
            UserError: there is no room, or the folder cannot be written to.
        """
        recipe = Recipe(datasets)
        log.info("cache: %s", recipe.size_text())
        if where == RAM:
            cache = _build_in_memory(recipe, workers, quiet)
        else:
            cache = _find_or_build(os.path.abspath(where), recipe, workers, quiet)
        for dataset in datasets:
            cache.attach(dataset)
        return cache

    def place(self):
        """Return where the frames are, as plain values, for `adopt` in another process while this one lives."""
        return self.path, sorted(self._rows.values())

    @classmethod
    def adopt(cls, place, *datasets):
        """Attach to these data sets the cache that another process of this machine has opened for the same ones."""
        recipe, (path, rows) = Recipe(datasets), place
        readable = np.zeros(len(recipe.frames), bool)
        readable[rows] = True
        cache = cls(path, recipe.frames, readable, recipe.shape)
        for dataset in datasets:
            cache.attach(dataset)
        return cache

    def attach(self, dataset):
        """Make a data set read its frames from here; frames that were unreadable stay with their files."""
        rows = np.full((len(dataset), len(dataset.frame_idxs)), -1, dtype=np.int32)
        for index in range(len(dataset)):
            for column, frame in enumerate(dataset.frame_idxs):
                rows[index, column] = self._rows.get(dataset.frame_of(index, frame), -1)
        dataset.cache = CachedFrames(self.path, self.shape, rows, dataset.frame_idxs)


class CachedFrames:
    """What a data set keeps of a cache: which of its frames lies where. Opens the file in each process anew.

    It is read and not mapped: where a mapped file is cut off, or its disk fails, the process dies of a signal.
    """

    def __init__(self, path, shape, rows, frame_idxs):
        self.path, self.shape, self.rows = path, shape, rows
        self.columns = {frame: column for column, frame in enumerate(frame_idxs)}
        self._file, self._process = None, None

    def read(self, index, frame):
        """Return the (3, height, width) uint8 values of a line's frame, or None where the cache has none.

        Raises:
            UserError: the file is shorter than it was, gone, or cannot be read.
        """
        row = self.rows[index, self.columns[frame]]
        if row < 0:
            return None
        values = np.empty(self.shape[1:], np.uint8)
        try:
            if self._process != os.getpid():
                self._file, self._process = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), os.getpid()
            whole = _read_at(self._file, memoryview(values).cast("B"), int(row) * values.nbytes)
        except OSError as error:
            raise from_os_error(error, self.path) from error
        if not whole:
            fix = "delete its folder (it is built again), and continue with --resume"
            raise UserError("the cache was cut off while it was in use", self.path, fix)
        return values

    def __getstate__(self):
        return self.__dict__ | {"_file": None, "_process": None}

    def __del__(self):
        if getattr(self, "_file", None) is not None and self._process == os.getpid():
            os.close(self._file)


def _read_at(file, view, offset):
    """Fill `view` from `offset` on; return whether the file reaches that far."""
    while view:
        count = os.preadv(file, [view], offset)
        if not count:
            return False
        view, offset = view[count:], offset + count
    return True


class Recipe:
    """What a cache is made of: the frames, how they are read, and the name that follows from both."""

    def __init__(self, datasets):
        self.reader = datasets[0]
        settings = {(type(d), d.data_path, d.img_ext, d.height, d.width) for d in datasets}
        if len(settings) != 1:
            raise ValueError(f"data sets that cannot share a cache: {settings}")
        found = {d.frame_of(index, frame) for d in datasets for index in range(len(d)) for frame in d.frame_idxs}
        self.frames = sorted(frame for frame in found if frame[1] >= 0)
        self.shape = (len(self.frames), 3, self.reader.height, self.reader.width)
        self.frame_bytes = 3 * self.reader.height * self.reader.width
        self.bytes = len(self.frames) * self.frame_bytes
        self.about = {
            "version": VERSION,
            "kind": f"{type(self.reader).__module__}.{type(self.reader).__qualname__}",
            "data": os.path.realpath(self.reader.data_path),
            "format": self.reader.img_ext,
            "height": self.reader.height,
            "width": self.reader.width,
            "frames": len(self.frames),
            "sha256": hashlib.sha256("\n".join(f"{a} {b} {c}" for a, b, c in self.frames).encode()).hexdigest(),
        }
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.name = f"frames_{self.reader.width}x{self.reader.height}_{digest[:12]}"

    def size_text(self):
        """Return the size for people."""
        width, height = self.reader.width, self.reader.height
        return f"{len(self.frames)} frames at {width}x{height}, {self.bytes / GIGABYTE:.2f} GB"

    def pixels(self, row):
        """Return a frame decoded and resized, (3, height, width) uint8. Raises UserError."""
        return self.reader.load_frame(*self.frames[row], "the cache").astype(np.uint8)

    def stamp(self, row):
        """Return (size, modification time in ns) of a frame's file, (-1, -1) where there is none."""
        try:
            status = os.stat(self.reader.image_path(*self.frames[row]))
        except OSError:
            return -1, -1
        return status.st_size, status.st_mtime_ns


# --- building ------------------------------------------------------------------------------------------------------


class _Writer(Dataset):
    """Decodes frame after frame in the workers of a DataLoader and writes each to its place in the file."""

    def __init__(self, recipe, path):
        self.recipe, self.path = recipe, path
        self._file = None

    def __len__(self):
        return len(self.recipe.frames)

    def __getitem__(self, row):
        stamp = self.recipe.stamp(row)
        try:
            pixels = self.recipe.pixels(row).tobytes()
        except UserError:
            return row, 0, False, stamp  # the item that needs it will say so
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY)
        try:
            _write_at(self._file, pixels, row * self.recipe.frame_bytes)
        except OSError as error:
            return row, from_os_error(error, self.path), False, stamp
        return row, zlib.crc32(pixels), True, stamp

    def __getstate__(self):
        return self.__dict__ | {"_file": None}


def _write_at(file, content, offset):
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _fill(recipe, path, workers, quiet):
    """Write all frames to the file at `path`; returns {"crc", "readable", "stamps"} arrays."""
    index = {
        "crc": np.zeros(len(recipe.frames), np.uint32),
        "readable": np.zeros(len(recipe.frames), bool),
        "stamps": np.full((len(recipe.frames), 2), -1, np.int64),
    }
    loader = DataLoader(
        _Writer(recipe, path),
        batch_size=8,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),  # else it would draw from training's own generator, and only where it builds
    )
    with Progress("cache", len(recipe.frames), "frames", quiet) as progress:
        for results in loader:
            for row, crc, readable, stamp in results:
                if isinstance(crc, UserError):
                    raise crc
                index["crc"][row], index["readable"][row], index["stamps"][row] = crc, readable, stamp
            progress.advance(len(results))
    unreadable = int((~index["readable"]).sum())
    if unreadable:
        log.warning("cache: %d of %d frames cannot be read and are left out", unreadable, len(recipe.frames))
    return index


def _build_in_memory(recipe, workers, quiet):
    free = _free_memory()
    if free is not None and recipe.bytes > free:
        which = f"{recipe.size_text()}, {free / GIGABYTE:.2f} GB free"
        raise UserError("not enough memory for the cache", which, "give --cache a folder, or choose a smaller size")
    file = os.memfd_create("frames")  # not under /dev/shm, which is small in many containers
    os.ftruncate(file, max(recipe.bytes, 1))
    path = f"/proc/{os.getpid()}/fd/{file}"  # how other processes find it
    index = _fill(recipe, path, workers, quiet)
    return FrameCache(path, recipe.frames, index["readable"], recipe.shape)


def _free_memory():
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _find_or_build(where, recipe, workers, quiet):
    folder = os.path.join(where, recipe.name)
    with only_one(os.path.join(where, ".lock"), f"building a cache in {where}", tell=log.info):
        index, problem = _check(folder, recipe)
        if problem:
            log.info("cache: %s, building %s", problem, folder)
            index = _build(where, folder, recipe, workers, quiet)
        else:
            log.info("cache: found in %s", folder)
    return FrameCache(os.path.join(folder, FRAMES), recipe.frames, index["readable"], recipe.shape)


def _build(where, folder, recipe, workers, quiet):
    files.sweep(where)
    free = shutil.disk_usage(where).free
    if recipe.bytes > free:
        which = f"{where}: {recipe.size_text()}, {free / GIGABYTE:.2f} GB free"
        raise UserError("not enough room for the cache", which, "choose another folder or a smaller size")
    with files.replacing_folder(folder) as partial:
        path = os.path.join(partial, FRAMES)
        with open(path, "wb") as file:
            file.truncate(recipe.bytes)
        index = _fill(recipe, path, workers, quiet)
        files.write_npz(os.path.join(partial, INDEX), **index)
        files.write_json(os.path.join(partial, ABOUT), recipe.about)
    return index


# --- checking ------------------------------------------------------------------------------------------------------


def _check(folder, recipe):
    """Return (index, None) of a sound cache, or (None, what is wrong with it)."""
    if not os.path.isdir(folder):
        return None, "none yet"
    try:
        with files.open_regular(os.path.join(folder, ABOUT), encoding="utf-8") as file:
            about = json.load(file)
        with np.load(os.path.join(folder, INDEX), allow_pickle=False) as content:
            index = {name: content[name] for name in INDEX_NAMES}
        size = os.path.getsize(os.path.join(folder, FRAMES))
    except Exception as error:  # damage shows in any way; whatever it is, the cache is built again
        return None, f"damaged ({error})"
    count = len(recipe.frames)
    if about != recipe.about or [index[name].shape for name in INDEX_NAMES] != [(count,), (count,), (count, 2)]:
        return None, "made of something else"
    if any(index[name].dtype.kind not in "biu" for name in INDEX_NAMES):
        return None, "damaged (an index of another kind)"
    index["readable"] = index["readable"].astype(bool)
    if size != recipe.bytes:
        return None, "of the wrong size"
    if recipe.frames:
        stored = functools.partial(_stored, os.path.join(folder, FRAMES), recipe.frame_bytes)
        readable = np.flatnonzero(index["readable"])
        if any(zlib.crc32(stored(row)) != index["crc"][row] for row in _some(readable, CHECKED)):
            return None, "damaged (a checksum differs)"
        if _sources_changed(recipe, index, stored):
            return None, "older than the images"
    return index, None


def _stored(path, frame_bytes, row):
    """Return a frame's bytes, fewer where the file is cut off."""
    with open(path, "rb") as file:
        file.seek(int(row) * frame_bytes)
        return file.read(frame_bytes)


def _sources_changed(recipe, index, stored):
    """Whether images differ from what was cached. Files that are gone, or were merely copied, do not."""
    stamps = np.array([recipe.stamp(row) for row in range(len(recipe.frames))], dtype=np.int64)
    touched = np.flatnonzero((stamps != index["stamps"]).any(1) & (stamps[:, 0] >= 0))
    if not index["readable"][touched].all():
        return True
    try:
        return any(recipe.pixels(row).tobytes() != stored(row) for row in _some(touched, COMPARED))
    except UserError:
        return True


def _some(values, count):
    """Return up to `count` of the values, evenly spread."""
    return values[np.unique(np.linspace(0, max(len(values) - 1, 0), min(count, len(values))).astype(int))]
