"""A cache on disk: its folder, found sound or built, whole or not at all, by one process at a time.

Below the folder that the user names, each combination of data, split and size has a folder of its own: frames.u8 (the
frames one after another), index.npz (checksum and source of each), about.json. What a killed process leaves is swept
away by the next.
"""

import functools
import json
import logging
import os
import shutil
import zlib

import numpy as np

from datasets.cache_contents import GIGABYTE
from datasets.cache_filling import fill
from system import files
from system.errors import UserError
from system.locks import only_one

FRAMES, INDEX, ABOUT = "frames.u8", "index.npz", "about.json"
INDEX_NAMES = ("crc", "readable", "stamps")
CHECKED = 64  # frames whose checksum is tried when a cache is opened
COMPARED = 16  # frames with a newer file that are decoded and compared

log = logging.getLogger(__name__)


def find_or_build(where, contents, workers, quiet):
    """Return (path of the file, which of its frames are readable) of a sound cache below the folder `where`.

    Args:
        contents: `cache_contents.CacheContents`.
        workers: processes that build.
        quiet: no progress.

    Raises:
        UserError: there is no room, or the folder cannot be written to.
    """
    folder = os.path.join(where, contents.name)
    with only_one(os.path.join(where, ".lock"), f"building a cache in {where}", tell=log.info):
        index, problem = _check(folder, contents)
        if problem:
            log.info("cache: %s, building %s", problem, folder)
            index = _build(where, folder, contents, workers, quiet)
        else:
            log.info("cache: found in %s", folder)
    return os.path.join(folder, FRAMES), index["readable"]


def _build(where, folder, contents, workers, quiet):
    files.sweep(where)
    free = shutil.disk_usage(where).free
    if contents.bytes > free:
        which = f"{where}: {contents.size_text()}, {free / GIGABYTE:.2f} GB free"
        raise UserError("not enough room for the cache", which, "choose another folder or a smaller size")
    with files.replacing_folder(folder) as partial:
        path = os.path.join(partial, FRAMES)
        with open(path, "wb") as file:
            file.truncate(contents.bytes)
        index = fill(contents, path, workers, quiet)
        files.write_npz(os.path.join(partial, INDEX), **index)
        files.write_json(os.path.join(partial, ABOUT), contents.about)
    return index


def _check(folder, contents):
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
    count = len(contents.frames)
    if about != contents.about or [index[name].shape for name in INDEX_NAMES] != [(count,), (count,), (count, 2)]:
        return None, "made of something else"
    if any(index[name].dtype.kind not in "biu" for name in INDEX_NAMES):
        return None, "damaged (an index of another kind)"
    index["readable"] = index["readable"].astype(bool)
    if size != contents.bytes:
        return None, "of the wrong size"
    if contents.frames:
        stored = functools.partial(_stored, os.path.join(folder, FRAMES), contents.frame_bytes)
        readable = np.flatnonzero(index["readable"])
        if any(zlib.crc32(stored(row)) != index["crc"][row] for row in _some(readable, CHECKED)):
            return None, "damaged (a checksum differs)"
        if _sources_changed(contents, index, stored):
            return None, "older than the images"
    return index, None


def _stored(path, frame_bytes, row):
    """Return a frame's bytes, fewer where the file is cut off."""
    with open(path, "rb") as file:
        file.seek(int(row) * frame_bytes)
        return file.read(frame_bytes)


def _sources_changed(contents, index, stored):
    """Whether images differ from what was cached. Files that are gone, or were merely copied, do not."""
    stamps = np.array([contents.stamp(row) for row in range(len(contents.frames))], dtype=np.int64)
    touched = np.flatnonzero((stamps != index["stamps"]).any(1) & (stamps[:, 0] >= 0))
    if not index["readable"][touched].all():
        return True
    try:
        return any(contents.pixels(row).tobytes() != stored(row) for row in _some(touched, COMPARED))
    except UserError:
        return True


def _some(values, count):
    """Return up to `count` of the values, evenly spread."""
    return values[np.unique(np.linspace(0, max(len(values) - 1, 0), min(count, len(values))).astype(int))]
