"""Training items: a frame, its neighbours in time or across the stereo pair, cameras, and depth where it is known.

Items follow the convention of Monodepth2 (Godard et al., ICCV 2019): a dict with
("color", frame, scale) and ("color_aug", frame, scale): (3, H / 2^scale, W / 2^scale) float32 in [0, 1]; frame is an
    offset in time or "s", the other camera of the pair; color_aug is what the networks see, color what the loss sees;
("K", scale), ("inv_K", scale): (4, 4) float32, intrinsics in pixels of that scale;
"stereo_T": (4, 4) float32, from this camera to the other, with a baseline of 0.1 (only with "s");
"depth_gt": (1, h, w) float32 metres, 0 where unknown.
"""

import os

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets import images, jitter
from datasets.splits import parse_lines
from system.errors import UserError

BASELINE = 0.1  # stereo_T's unit: KITTI's 0.54 m are called 0.1
LEAVE_OUT = "leave the line out of the list, or choose other --frame_ids"
AUGMENT_CHANCE = 0.5  # of the flip, and of the colour jitter


class MonoDataset(Dataset):
    """Items of a list of split lines. Subclasses say where files are, what the camera is, and where depth comes from.

    An item depends on `seed`, the epoch and its index alone: set the epoch with `set_epoch`, or ask for
    `dataset[epoch, index]`, which also reaches worker processes that live on through the epochs.

    Args:
        data_path: root of the images.
        filenames: split lines, see `datasets.splits`.
        height, width: size of scale 0.
        frame_idxs: offsets such as (0, -1, 1), and "s".
        num_scales: number of scales, each half of the finer one.
        is_train: flip and jitter, each with chance 0.5.
        img_ext: ".jpg" or ".png".
        keys: what to put into an item besides the cameras: ("color", frame, scale), ("color_aug", frame, scale),
            "depth_gt". None: all of them, depth where the data has any.
        seed: of the augmentation.
        jitter_per_image: draw a colour jitter for each frame of an item instead of one for all.
        on_device: leave the arithmetic to `datasets.on_device.complete`: items then carry ("color", frame, 0) as
            uint8, "flip" and ("jitter", frame) tables instead of colours.

    Raises:
        UserError: a line is malformed. No image is looked for until an item asks for it.
    """

    def __init__(
        self,
        data_path,
        filenames,
        height,
        width,
        frame_idxs,
        num_scales,
        is_train=False,
        img_ext=".jpg",
        *,
        keys=None,
        seed=0,
        jitter_per_image=False,
        on_device=False,
    ):
        self.data_path = os.fspath(data_path)
        self.lines = parse_lines(filenames, "entry")
        self.height, self.width = height, width
        self.frame_idxs = tuple(frame_idxs)
        self.num_scales = num_scales
        self.is_train = is_train
        self.img_ext = img_ext if img_ext.startswith(".") else f".{img_ext}"
        self.keys = None if keys is None else frozenset(keys)
        self.seed = seed
        self.jitter_per_image = jitter_per_image
        self.on_device = on_device
        self.epoch = 0
        self.cache = None
        self.extras = ()  # functions (data set, index, whether it is flipped) -> {name: tensor} that add to items
        self.wanted = {kind: self._wanted_scales(kind) for kind in ("color", "color_aug")}
        self._cameras = {}

    def __len__(self):
        return len(self.lines)

    def folders(self):
        """Return the folders that the lines name, sorted."""
        return sorted({line.folder for line in self.lines})

    def set_epoch(self, epoch):
        """Choose the epoch that plain indices belong to."""
        self.epoch = epoch

    # --- what a kind of data says about itself ---------------------------------------------------------------------

    def image_path(self, folder, frame, side):
        """Return the path of a frame, `side` "l" or "r"."""
        raise NotImplementedError

    def intrinsics(self, folder):
        """Return the (4, 4) float32 intrinsics of a folder's cameras, rows divided by image width and height."""
        raise NotImplementedError

    def baseline(self, folder):
        """Return the distance between the cameras of a folder's stereo pair, in the unit of "stereo_T"."""
        return BASELINE

    def has_depth(self):
        """Return whether items get "depth_gt" when nobody says what they want."""
        return False

    def load_depth(self, line):
        """Return the (h, w) float32 depth of a line's frame, one size for the whole dataset, 0 where unknown."""
        raise NotImplementedError

    def open_image(self, path, wanted_by):
        """Return a file's pixels, (H, W, 3) uint8 or an RGB PIL image; a place to crop or undistort."""
        return images.read_pixels(path, wanted_by)

    # --- items -----------------------------------------------------------------------------------------------------

    def __getitem__(self, index):
        epoch, index = index if isinstance(index, tuple) else (self.epoch, index)
        line = self.lines[index]
        flip, jitters = self.draw(epoch, index)
        item = {}
        for frame in self.frame_idxs:
            self._add_colours(item, index, frame, flip, jitters[frame])
        if self.on_device:
            item["flip"] = torch.tensor(flip)
        self._add_cameras(item, line.folder, flip)
        if "s" in self.frame_idxs:
            item["stereo_T"] = stereo_transform(line.side, flip, self.baseline(line.folder))
        if self.wants_depth():
            depth = self.load_depth(line)
            item["depth_gt"] = torch.from_numpy(np.ascontiguousarray(depth[None, :, ::-1] if flip else depth[None]))
        for extra in self.extras:
            item |= extra(self, index, flip)
        return item

    def draw(self, epoch, index):
        """Return an item's random draws: (flip, {frame: jitter table or None})."""
        if not self.is_train:
            return False, dict.fromkeys(self.frame_idxs)
        rng = np.random.default_rng((self.seed, epoch, index))
        flip, coloured = rng.random(2) < AUGMENT_CHANCE
        if not coloured:
            return bool(flip), dict.fromkeys(self.frame_idxs)
        if self.jitter_per_image:
            return bool(flip), {frame: jitter.draw(rng) for frame in self.frame_idxs}
        return bool(flip), dict.fromkeys(self.frame_idxs, jitter.draw(rng))

    def wants_depth(self):
        """Return whether items carry "depth_gt"."""
        return self.has_depth() if self.keys is None else "depth_gt" in self.keys

    def frame_of(self, index, frame):
        """Return (folder, frame number, side) of a line's frame or neighbour."""
        folder, number, side = self.lines[index]
        return (folder, number, "lr"[side == "l"]) if frame == "s" else (folder, number + frame, side)

    def read_frame(self, index, frame):
        """Return a line's frame (an offset or "s") at scale 0, neither flipped nor jittered.

        Returns:
            (3, height, width) whole numbers, 0 to 255: float32 from a file, a uint8 view from a cache.

        Raises:
            UserError: the file is missing or damaged; names it and the split line.
        """
        stored = self.cache.read(index, frame) if self.cache else None
        if stored is not None:
            return stored
        folder, number, side = self.frame_of(index, frame)
        line = self.lines[index]
        wanted_by = f"split line {index + 1}, '{line.folder} {line.frame} {line.side}'"
        if number < 0:
            raise UserError(before_first(line, frame), wanted_by, LEAVE_OUT)
        return self.load_frame(folder, number, side, wanted_by)

    def load_frame(self, folder, number, side, wanted_by):
        """Return a frame's file at scale 0, (3, height, width) float32 whole numbers, 0 to 255. Raises UserError."""
        image = self.open_image(self.image_path(folder, number, side), wanted_by)
        return images.planes(image, self.height, self.width)

    def _wanted_scales(self, kind):
        every = range(self.num_scales)
        if self.keys is None:
            return {frame: tuple(every) for frame in self.frame_idxs}
        return {frame: tuple(s for s in every if (kind, frame, s) in self.keys) for frame in self.frame_idxs}

    def _add_colours(self, item, index, frame, flip, table):
        plain, augmented = self.wanted["color"][frame], self.wanted["color_aug"][frame]
        if not plain and not augmented:
            return
        image = self.read_frame(index, frame)
        if self.on_device:
            item["color", frame, 0] = torch.from_numpy(image.astype(np.uint8))
            item["jitter", frame] = torch.tensor(jitter.NONE) if table is None else torch.from_numpy(table)
            return
        image = np.ascontiguousarray(image[:, :, ::-1] if flip else image, dtype=np.float32)
        levels = images.pyramid(image, 1 + max(plain + augmented))
        tensors = {scale: torch.from_numpy(levels[scale]).div_(255) for scale in {*plain, *augmented}}
        for scale in plain:
            item["color", frame, scale] = tensors[scale]
        for scale in augmented:
            item["color_aug", frame, scale] = tensors[scale] if table is None else jitter.apply(tensors[scale], table)

    def _add_cameras(self, item, folder, flip):
        known = self._cameras.get((folder, flip))
        if known is None:
            known = self._cameras[folder, flip] = self._make_cameras(self.intrinsics(folder), flip)
        item.update((key, value.clone()) for key, value in known.items())

    def _make_cameras(self, normalised, flip):
        normalised = np.array(normalised, dtype=np.float32)
        if flip:
            normalised[0, 2] = 1 - normalised[0, 2]
        cameras = {}
        for scale in range(self.num_scales):
            K = normalised.copy()
            K[0] *= self.width // 2**scale
            K[1] *= self.height // 2**scale
            cameras["K", scale] = torch.from_numpy(K)
            cameras["inv_K", scale] = torch.from_numpy(np.linalg.pinv(K))
        return cameras


def before_first(line, frame):
    """Return what to say of a line whose neighbour `frame` would lie before the first frame of its folder."""
    return f"no frame {frame:+d} beside frame {line.frame}, the folder begins with frame 0"


def stereo_transform(side, flip, baseline=BASELINE):
    """Return "stereo_T", (4, 4): the other camera is at +baseline in x seen from the left one; a flip mirrors that."""
    T = torch.eye(4)
    T[0, 3] = -baseline if (side == "l") != flip else baseline
    return T
