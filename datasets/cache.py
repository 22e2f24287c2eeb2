"""Frames decoded and resized once: a file of raw bytes at scale 0 that every process reads, on disk or in memory.

A cache holds each frame that the lines of some data sets touch, (3, height, width) uint8, losslessly. It lies in a
folder (`cache_folder`) or, for "ram", in an anonymous file in memory.
"""

import logging
import os

import numpy as np

from datasets.cache_contents import GIGABYTE, CacheContents
from datasets.cache_filling import fill
from datasets.cache_folder import find_or_build
from system import memory
from system.errors import UserError, from_os_error

RAM = "ram"

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
        contents = CacheContents(datasets)
        log.info("cache: %s", contents.size_text())
        if where == RAM:
            path, readable = _build_in_memory(contents, workers, quiet)
        else:
            path, readable = find_or_build(os.path.abspath(where), contents, workers, quiet)
        cache = cls(path, contents.frames, readable, contents.shape)
        for dataset in datasets:
            cache.attach(dataset)
        return cache

    def place(self):
        """Return where the frames are, as plain values, for `adopt` in another process while this one lives."""
        return self.path, sorted(self._rows.values())

    @classmethod
    def adopt(cls, place, *datasets):
        """Attach to these data sets the cache that another process of this machine has opened for the same ones."""
        contents, (path, rows) = CacheContents(datasets), place
        readable = np.zeros(len(contents.frames), bool)
        readable[rows] = True
        cache = cls(path, contents.frames, readable, contents.shape)
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


def _build_in_memory(contents, workers, quiet):
    free = memory.free()
    if free is not None and contents.bytes > free:
        which = f"{contents.size_text()}, {free / GIGABYTE:.2f} GB free"
        raise UserError("not enough memory for the cache", which, "give --cache a folder, or choose a smaller size")
    file = os.memfd_create("frames")  # not under /dev/shm, which is small in many containers
    os.ftruncate(file, max(contents.bytes, 1))
    path = f"/proc/{os.getpid()}/fd/{file}"  # how other processes find it
    return path, fill(contents, path, workers, quiet)["readable"]
