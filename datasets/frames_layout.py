"""Where the frames, cameras and depth maps of prepared videos lie. Free of torch.

    DATA/<sequence>/frames/<number>.jpg|png    or left/ and right/, the images of a rectified stereo pair
    DATA/<sequence>/depth/<number>.png|npz     where depth is known: 16-bit PNG, metres times 256, or an array of metres
    camera.json                                in the sequence's folder or any above it, up to DATA

A sequence may lie several folders deep; its frames are numbered without gaps. Split lines are `<sequence> <number> l`.
"""

import functools
import os
import zipfile

import numpy as np

from datasets.camera_files import read_camera
from datasets.cameras import judged
from datasets.images import read_depth_png
from system.errors import UserError
from system.files import DAMAGED_ARRAYS, open_regular, read_member

CAMERA_FILE = "camera.json"
FOLDERS = {"l": ("frames", "left"), "r": ("right",)}
DEPTH = "depth"
IMAGES = (".jpg", ".jpeg", ".png")
MAPS = (".png", ".npz")


def image_folder(data_path, folder, side):
    """Return where a sequence's images of one side lie: frames/, left/ or right/, or the sequence's folder itself."""
    for name in FOLDERS[side]:
        home = os.path.join(data_path, folder, name)
        if os.path.isdir(home):
            return home
    return os.path.join(data_path, folder, *(FOLDERS[side] if side == "r" else ()))


@functools.lru_cache(maxsize=4096)
def numbered_files(folder, endings=IMAGES):
    """Return {number: file name} of the files in a folder whose names are numbers; empty where there is no folder."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    parts = ((os.path.splitext(name), name) for name in sorted(names, reverse=True))
    return {int(stem): name for (stem, end), name in parts if stem.isdecimal() and end.lower() in endings}


@functools.lru_cache(maxsize=4096)
def sequence_camera(data_path, folder):
    """Return the `Camera` of a sequence: the nearest camera.json in its folder or above it.

    Raises:
        UserError: there is none, or it is no possible camera.
    """
    home = os.path.join(data_path, folder)
    for above in [folder, *_parents(folder), ""]:
        path = os.path.join(data_path, above, CAMERA_FILE)
        if os.path.exists(path):
            camera = read_camera(path)
            if camera.is_distorted():
                fix = "straighten the images with prepare_frames.py --camera"
                raise UserError("a camera with distortion", path, fix)
            judged(camera, path)
            return camera
    raise UserError("a sequence without a camera", home, f"put {CAMERA_FILE} there or above it (see docs/own_data.md)")


def _parents(folder):
    while folder := os.path.dirname(folder.rstrip("/")):
        yield folder


def read_depth(path):
    """Return a depth map, (H, W) float32 metres, 0 where unknown.

    Args:
        path: a 16-bit PNG of metres times 256, or an .npz with one array of metres (named depth where there are more).

    Raises:
        UserError: the file is damaged or something else.
    """
    if not path.lower().endswith(".npz"):
        return read_depth_png(path)
    try:
        with open_regular(path, "rb") as file, zipfile.ZipFile(file) as content:
            names = content.namelist()
            depth = read_member(content, "depth.npy" if "depth.npy" in names else names[0])
    except (*DAMAGED_ARRAYS, OSError) as error:
        raise UserError("a damaged depth map", f"{path}: {error}", "write it again") from None
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise UserError("not a depth map", f"{path}: {depth.dtype} {depth.shape}", "store one (H, W) array of metres")
    depth = depth.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0)
