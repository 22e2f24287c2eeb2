"""The videos that an odometry evaluation is about: KITTI odometry sequences, or folders of images with a pose file."""

import os
from typing import NamedTuple

import numpy as np

from datasets.images import planes, read_pixels
from datasets.trajectories import read_poses
from kitti_utils import CAMERA_OF_SIDE
from system.errors import UserError
from system.parallel import map_in_order

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")


class Sequence(NamedTuple):
    """A video: its `name`, the `images` (paths in order of time), and the true trajectory `poses` or None."""

    name: str
    images: tuple
    poses: np.ndarray


def kitti_sequence(data_path, number, ending=".jpg", side="l"):
    """Return a sequence of KITTI odometry: sequences/<nn>/image_2|3 and poses/<nn>.txt below `data_path`.

    The poses are those of the left grey camera, whose motion is the colour cameras' too, all being parallel and fixed.

    Raises:
        UserError: images or poses are missing, or differ in number.
    """
    name = f"{number:02d}"
    folder = os.path.join(data_path, "sequences", name, f"image_{CAMERA_OF_SIDE[side]}")
    poses = os.path.join(data_path, "poses", f"{name}.txt")
    if not os.path.isfile(poses):
        raise UserError("no true poses of this sequence", poses, "unpack KITTI's data_odometry_poses there")
    return folder_sequence(folder, poses, name, (ending,))


def folder_sequence(folder, poses=None, name=None, endings=IMAGE_ENDINGS):
    """Return a folder's images, in the order of their names, as a sequence; `poses` is a KITTI pose file or None.

    Raises:
        UserError: there are fewer than two images, or images and poses differ in number.
    """
    if not os.path.isdir(folder):
        raise UserError("no such folder of images", folder, "check --data_path and the sequence")
    names = sorted(each for each in os.listdir(folder) if each.lower().endswith(endings) and not each.startswith("."))
    if len(names) < 2:
        kinds = " or ".join(endings)
        raise UserError(f"{len(names)} {kinds} images, motion needs two", folder, "choose another folder (or --png)")
    trajectory = read_poses(poses) if poses else None
    if trajectory is not None and len(trajectory) != len(names):
        raise UserError("images and poses differ in number", f"{folder}: {len(names)} images; {poses}: "
                        f"{len(trajectory)} poses", "give the poses of exactly these images")  # fmt: skip
    return Sequence(name or _name(folder), tuple(os.path.join(folder, each) for each in names), trajectory)


def _name(folder):
    """The folder's own name; for a camera of KITTI raw, <drive>/image_02/data, the drive's."""
    parts = os.path.abspath(folder).split(os.sep)
    if len(parts) > 3 and parts[-1] == "data" and parts[-2].startswith("image_"):
        return parts[-3]
    return parts[-1]


def frames(sequence, height, width, workers=None):
    """Yield a sequence's images as the networks take them: (3, height, width) float32 tensors in [0, 1]."""
    import torch

    def read(path):
        return torch.from_numpy(planes(read_pixels(path), height, width)).div_(255)

    return map_in_order(read, sequence.images, workers)
