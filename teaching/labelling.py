"""Labels of a data set from one teacher or several: what they agree on, written file by file, resumable and shared.

    OUT/<the image's path below the data>.npz   float16: `depth`, or disparity from 0.01 to 1 (kind "affine")
    OUT/labels.json                             the kind and the teachers
    OUT/contact_sheet.png                       images beside their labels

Each process that torchrun started takes every so manyth image and writes files of its own; they need not talk.
"""

import json
import logging
import os

import cv2
import numpy as np
from PIL import Image, ImageOps

from datasets import dataset_class
from datasets.images import read_rgb
from datasets.labels import ABOUT, relative_stem
from datasets.splits import resolve_split
from inference.colour import colour_disparity
from system.devices import choose_device
from system.errors import UserError
from system.files import open_regular, sweep, write_image, write_json, write_npz
from system.progress import Progress
from teaching.teachers import make_teacher

LARGEST_DEPTH = 1e4  # of a label, far inside float16
LEAST_DISPARITY = 0.01  # of an affine label, whose largest is 1: 0 would mean unknown
ROWS, CELL_WIDTH = 8, 416  # of the contact sheet

log = logging.getLogger(__name__)


def make_labels(opt):
    """Label the images of a list; return {"written", "there": counts, "kind", "sheet": path or None}.

    Args:
        opt: the options of make_pseudo_depth.py.

    Raises:
        UserError: a teacher, an image or the folder's earlier labels do not fit.
    """
    rank, count = (int(os.environ.get(name, usual)) for name, usual in (("RANK", 0), ("WORLD_SIZE", 1)))
    device = choose_device(opt.no_cuda, opt.device, int(os.environ.get("LOCAL_RANK", 0)))
    images = find_images(opt)
    teachers = [make_teacher(name, device) for name in opt.teacher]
    kind = common_kind(teachers)
    _claim(opt.out, {"kind": kind, "teachers": list(opt.teacher), "flip": not opt.no_flip})
    missing = [each for each in images[rank::count] if not os.path.isfile(_label_path(opt.out, each[0]))]
    with Progress("labels", len(missing), "images", quiet=rank > 0) as progress:
        for stem, path in progress.over(missing):
            label = label_of(read_rgb(path), teachers, not opt.no_flip)
            write_npz(_label_path(opt.out, stem), depth=label)
    sheet = os.path.join(opt.out, "contact_sheet.png") if rank == 0 else None
    if sheet:
        write_image(sheet, contact_sheet(opt.out, images[::count], kind))
    return {"written": len(missing), "there": len(images[rank::count]) - len(missing), "kind": kind, "sheet": sheet}


def find_images(opt):
    """Return [(path below the data path without its ending, path)] of the frames that the lists name, each once."""
    if not os.path.isdir(opt.data_path):
        raise UserError("no such data folder", opt.data_path, "give --data_path")
    split = resolve_split(opt.split)
    lines = [line for part in opt.parts for line in split.lines(part)]
    data = dataset_class(opt.dataset)(opt.data_path, lines, 32, 32, (0,), 1, img_ext=".png" if opt.png else ".jpg")
    frames = dict.fromkeys(data.frame_of(index, 0) for index in range(len(data)))
    return [(relative_stem(data, *frame), data.image_path(*frame)) for frame in frames]


def common_kind(teachers):
    """Return the kind of labels that these teachers give together: metres only where all of them do.

    Raises:
        UserError: some give depth and others disparity up to a shift, which cannot be averaged.
    """
    kinds = {teacher.kind for teacher in teachers}
    if "affine" in kinds and len(kinds) > 1:
        which = ", ".join(f"{teacher.name}: {teacher.kind}" for teacher in teachers)
        raise UserError("teachers of depth and of disparity cannot be averaged", which, "give those of one kind")
    return kinds.pop() if len(kinds) == 1 else "scale"


def label_of(image, teachers, flip=True):
    """Return what the teachers say of an image (PIL), together: (h, w) float16, at the first one's size.

    Depth is averaged by its logarithm, each teacher's scaled to the first one's median where not all give metres;
    disparity after median and mean absolute deviation are removed. With `flip`, each teacher also sees the mirror
    image.
    """
    kind = common_kind(teachers)
    members = []
    for teacher in teachers:
        member = _comparable(teacher.predict(image), kind)
        if flip:
            mirrored = _comparable(teacher.predict(ImageOps.mirror(image))[:, ::-1], kind)
            member = (member + mirrored) / 2
        if members:
            member = cv2.resize(member, members[0].shape[::-1], interpolation=cv2.INTER_LINEAR)
            if kind == "scale":
                member = member + np.median(members[0]) - np.median(member)
        members.append(member)
    mean = np.mean(members, axis=0)
    if kind == "affine":
        low, high = mean.min(), mean.max()
        share = (mean - low) / (high - low) if high > low else np.zeros_like(mean)
        return (LEAST_DISPARITY + (1 - LEAST_DISPARITY) * share).astype(np.float16)
    return np.exp(mean).clip(1e-3, LARGEST_DEPTH).astype(np.float16)


def _comparable(predicted, kind):
    """Return a prediction in the form in which it is averaged: log depth, or disparity without shift and scale."""
    predicted = np.ascontiguousarray(predicted, np.float32)
    if kind != "affine":
        return np.log(predicted.clip(1e-3))
    centred = predicted - np.median(predicted)
    return centred / max(float(np.abs(centred).mean()), 1e-30)


def _label_path(out, stem):
    return os.path.join(out, f"{stem}.npz")


def _claim(out, about):
    """Write what the labels are, or compare it with what the folder already says."""
    path = os.path.join(out, ABOUT)
    os.makedirs(out, exist_ok=True)
    sweep(out)
    try:
        with open_regular(path, encoding="utf-8") as file:
            before = json.load(file)
    except FileNotFoundError:
        write_json(path, about)
        return
    except ValueError:
        raise UserError("a damaged description of labels", path, "delete the folder, or choose another --out") from None
    if before != about:
        fix = "choose another --out, or give the same options"
        raise UserError("the folder holds labels made otherwise", f"{path}: {before}", fix)


def contact_sheet(out, images, kind, rows=ROWS):
    """Return some images beside their labels, near is bright, as one PIL image."""
    cells = []
    for place in np.unique(np.linspace(0, len(images) - 1, min(rows, len(images))).astype(int)):
        stem, path = images[place]
        with np.load(_label_path(out, stem), allow_pickle=False) as content:
            label = content["depth"].astype(np.float32)
        height = max(1, round(CELL_WIDTH * label.shape[0] / label.shape[1]))
        picture = colour_disparity(label if kind == "affine" else 1 / label)
        pair = [read_rgb(path).resize((CELL_WIDTH, height)), Image.fromarray(picture).resize((CELL_WIDTH, height))]
        cells.append(np.concatenate([np.asarray(each.convert("RGB")) for each in pair], 1))
    return Image.fromarray(np.concatenate(cells))
