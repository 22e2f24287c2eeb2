"""Filling a cache's file: every frame decoded and resized once, in the processes of a loader."""

import logging
import os
import zlib

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from system.errors import UserError, from_os_error
from system.progress import Progress

log = logging.getLogger(__name__)


def fill(contents, path, workers, quiet):
    """Write all frames to the file at `path`; returns {"crc", "readable", "stamps"} arrays."""
    index = {
        "crc": np.zeros(len(contents.frames), np.uint32),
        "readable": np.zeros(len(contents.frames), bool),
        "stamps": np.full((len(contents.frames), 2), -1, np.int64),
    }
    loader = DataLoader(
        _Writer(contents, path),
        batch_size=8,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),  # else it would draw from training's own generator, and only where it builds
    )
    with Progress("cache", len(contents.frames), "frames", quiet) as progress:
        for results in loader:
            for row, crc, readable, stamp in results:
                if isinstance(crc, UserError):
                    raise crc
                index["crc"][row], index["readable"][row], index["stamps"][row] = crc, readable, stamp
            progress.advance(len(results))
    unreadable = int((~index["readable"]).sum())
    if unreadable:
        log.warning("cache: %d of %d frames cannot be read and are left out", unreadable, len(contents.frames))
    return index


class _Writer(Dataset):
    """Decodes frame after frame in the workers of a DataLoader and writes each to its place in the file."""

    def __init__(self, contents, path):
        self.contents, self.path = contents, path
        self._file = None

    def __len__(self):
        return len(self.contents.frames)

    def __getitem__(self, row):
        stamp = self.contents.stamp(row)
        try:
            pixels = self.contents.pixels(row).tobytes()
        except UserError:
            return row, 0, False, stamp  # the item that needs it will say so
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY)
        try:
            _write_at(self._file, pixels, row * self.contents.frame_bytes)
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
