"""What an item is compared with beside images: pseudo-labels of another network, and the depth that the data set has.

Each class is one of `MonoDataset.extras`: it reads for a line what belongs to its frame 0, brings it to the items'
size, and mirrors it with the item. Free of the cache, which holds frames only.
"""

import json
import os
import zipfile

import numpy as np
import torch

from datasets.images import read_depth_png
from datasets.kitti_dataset import nearest
from system.errors import UserError, from_os_error
from system.files import open_regular

ABOUT = "labels.json"  # in the folder's top: what made them, and their kind
ENDINGS = (".png", ".npy", ".npz")
LOOKED_AT = 8  # labels that are read before training begins
DENSE = 0.5  # share of known pixels above which a label is resized as a picture is
REMAKE = "write it again, with make_pseudo_depth.py for example"


class PseudoLabels:
    """Labels of another network: a folder that holds, for each image, a file of the same relative path.

    Args:
        folder: --pseudo_depth.
        kind: "scale", "affine" or "metric", as `losses.supervision` takes them.
    """

    def __init__(self, folder, kind="scale"):
        self.folder, self.kind = os.path.expanduser(os.fspath(folder)), kind

    def __call__(self, dataset, index, flip):
        """Return "pseudo_label" and "pseudo_confidence", (1, H, W) float32; zeros where nothing is known."""
        path = self.path(dataset, index)
        size = dataset.height, dataset.width
        label, confidence = read_label(path) if path else (np.zeros(size, np.float32),) * 2
        both = to_size(label, confidence, *size, nearest_is_large=self.kind == "affine")
        return dict(zip(("pseudo_label", "pseudo_confidence"), (_tensor(each, flip) for each in both), strict=True))

    def path(self, dataset, index):
        """Return the label's path of a line's frame, None where there is none."""
        stem = os.path.join(self.folder, relative_stem(dataset, *dataset.frame_of(index, 0)))
        return next((stem + ending for ending in ENDINGS if os.path.isfile(stem + ending)), None)

    def check(self, dataset):
        """Look at the labels before training; return how many of the lines have one.

        Raises:
            UserError: they are of another kind, no line has one, one is unreadable, or those looked at are empty.
        """
        if not os.path.isdir(self.folder):
            fix = "give --pseudo_depth the folder that make_pseudo_depth.py wrote"
            raise UserError("no such folder of labels", self.folder, fix)
        self._check_kind()
        found = [path for path in (self.path(dataset, index) for index in range(len(dataset))) if path]
        if not found:
            wanted = relative_stem(dataset, *dataset.frame_of(0, 0)) + ".png|npy|npz" if len(dataset) else "no lines"
            raise UserError("none of the training images has a label", f"{self.folder}: no {wanted}",
                            "name the folder that repeats the data's own folders")  # fmt: skip
        chosen = np.unique(np.linspace(0, len(found) - 1, min(len(found), LOOKED_AT)).astype(int))
        if not any(read_label(found[place])[1].any() for place in chosen):
            raise UserError("the labels are zero everywhere", f"{found[0]} and {len(chosen) - 1} more", REMAKE)
        return len(found)

    def _check_kind(self):
        """Compare the kind with what the folder says about itself, where it does. Depth in metres serves as scale."""
        path = os.path.join(self.folder, ABOUT)
        try:
            with open_regular(path, encoding="utf-8") as file:
                kind = json.load(file)["kind"]
        except FileNotFoundError:
            return
        except (ValueError, LookupError, TypeError):
            raise UserError("a damaged description of labels", path, REMAKE) from None
        if kind != self.kind and (kind, self.kind) != ("metric", "scale"):
            raise UserError("labels of another kind", f"--pseudo_kind {self.kind}, {path} says {kind}",
                            f"give --pseudo_kind {kind}")  # fmt: skip


class MeasuredDepth:
    """The depth of the data set itself, its scans or maps, as "measured_depth": (1, H, W) metres, 0 where unknown."""

    def __call__(self, dataset, index, flip):
        depth = dataset.load_depth(dataset.lines[index])
        sparse = gathered(depth, dataset.height, dataset.width)
        return {"measured_depth": _tensor(sparse, flip)}


def relative_stem(dataset, folder, frame, side):
    """Return an image's path below the data path, without its ending."""
    return os.path.splitext(os.path.relpath(dataset.image_path(folder, frame, side), dataset.data_path))[0]


def read_label(path):
    """Return (label, confidence) of a file, (h, w) float32 each; both 0 where nothing is known.

    A PNG has 16 bits, value / 256. An .npz holds `depth` (or one array of any name) and perhaps `confidence`, 0 to 1.

    Raises:
        UserError: the file is damaged, or holds what no label can hold.
    """
    confidence = None
    if path.endswith(".png"):
        label = read_depth_png(path)
    else:
        try:
            with open_regular(path, "rb") as file:
                content = np.load(file, allow_pickle=False)
                if path.endswith(".npz"):
                    label = content["depth" if "depth" in content.files else content.files[0]]
                    confidence = content["confidence"] if "confidence" in content.files else None
                else:
                    label = content
        except OSError as error:
            raise from_os_error(error, path) from error
        except (ValueError, IndexError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError("a damaged label", f"{path}: {error}", REMAKE) from None
    for name, values in (("label", label), ("confidence", confidence)):
        if values is not None:
            _check(name, values, label.shape, path)
    label = label.astype(np.float32)
    known = label > 0
    return label, known.astype(np.float32) if confidence is None else np.where(known, confidence, 0).astype(np.float32)


def _check(name, values, shape, path):
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu" or values.shape != shape:
        which = f"{path}: {name} {values.dtype} {values.shape}"
        raise UserError("not a label", which, "store one (H, W) array of numbers; a confidence has the same size")
    if not np.isfinite(values).all():
        raise UserError(f"a {name} that is not finite", path, f"{REMAKE}; pixels without depth hold 0")
    if values.min() < 0 or (name == "confidence" and values.max() > 1):
        which = f"{path}: {values.min():g} to {values.max():g}"
        raise UserError(f"a {name} out of range", which, "labels are 0 (unknown) or more, confidence lies in 0 to 1")


def to_size(label, confidence, height, width, nearest_is_large=False):
    """Return both maps at another size: by the nearest pixel where most are known, else by `gathered`."""
    if label.shape == (height, width):
        return label, confidence
    if (confidence > 0).mean() > DENSE or label.size < height * width:
        return nearest(label, height, width), nearest(confidence, height, width)
    depth = np.where(confidence > 0, 1 / np.where(label > 0, label, 1) if nearest_is_large else label, 0)
    small, sources = gathered(depth, height, width, with_sources=True)
    known = small > 0
    return (np.where(known, each.ravel()[sources], 0).astype(np.float32) for each in (label, confidence))


def gathered(depth, height, width, with_sources=False):
    """Return sparse depth at another size: each known pixel goes to the cell it falls into, the nearest one stays.

    Args:
        depth: (h, w) float32, 0 where unknown.
        height, width: wanted.
        with_sources: also return the places in `depth`, flat, that were taken.
    """
    row, column = np.nonzero(depth)
    flat = row * depth.shape[1] + column
    values = depth[row, column]
    far_first = np.argsort(-values, kind="stable")  # of equal cells the last assignment is kept
    cell = (row * height // depth.shape[0]) * width + column * width // depth.shape[1]
    result, sources = np.zeros(height * width, np.float32), np.zeros(height * width, np.int64)
    result[cell[far_first]], sources[cell[far_first]] = values[far_first], flat[far_first]
    result, sources = result.reshape(height, width), sources.reshape(height, width)
    return (result, sources) if with_sources else result


def _tensor(values, flip):
    return torch.from_numpy(np.array(values[None, :, ::-1] if flip else values[None], np.float32))
