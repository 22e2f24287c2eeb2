"""Videos of any camera as training data, in the layout of `datasets.frames_layout`."""

import functools
import logging
import os

import numpy as np

from datasets.frames_layout import (
    CAMERA_FILE,
    DEPTH,
    MAPS,
    image_folder,
    numbered_files,
    read_depth,
    sequence_camera,
)
from datasets.kitti_dataset import nearest
from datasets.mono_dataset import BASELINE, MonoDataset
from system.errors import UserError

KITTI_BASELINE = 0.54  # metres that are called `BASELINE`, so that stereo predictions times 5.4 are metres here too

log = logging.getLogger(__name__)


class FramesDataset(MonoDataset):
    """Items of prepared videos; lines without all of their neighbours are left out, and counted in the log.

    Args:
        frame_stride: frames between one offset and the next: offset -1 is the frame `frame_stride` before.
        others: as `MonoDataset`; img_ext means nothing, each folder says what its files are.
    """

    def __init__(self, *arguments, frame_stride=1, **options):
        super().__init__(*arguments, **options)
        self.frame_stride = frame_stride
        given, self.lines = self.lines, [line for line in self.lines if self._is_complete(line)]
        if len(self.lines) < len(given):
            left_out = f"{len(given) - len(self.lines)} of {len(given)} lines"
            log.info("%s have no frame %s beside them and are left out", left_out, self._offsets())

    def _offsets(self):
        return ", ".join(f"{frame * self.frame_stride:+d}" for frame in self.frame_idxs if frame not in (0, "s"))

    def _is_complete(self, line):
        """Whether a line's neighbours in time exist; where its own frame is missing, an item will say so."""
        numbers = numbered_files(self._image_folder(line.folder, line.side))
        needed = (line.frame + frame * self.frame_stride for frame in self.frame_idxs if frame not in (0, "s"))
        return line.frame not in numbers or all(number in numbers for number in needed)

    def frame_of(self, index, frame):
        """Return (folder, frame number, side) of a line's frame or neighbour."""
        return super().frame_of(index, frame if frame == "s" else frame * self.frame_stride)

    def image_path(self, folder, frame, side):
        """Return <folder>/frames|left|right/<number>, in whatever form the file has."""
        home = self._image_folder(folder, side)
        return os.path.join(home, numbered_files(home).get(frame, f"{frame:06d}.jpg"))

    def _image_folder(self, folder, side):
        return image_folder(self.data_path, folder, side)

    def intrinsics(self, folder):
        """Return the normalised intrinsics of a sequence's camera at the items' size."""
        return sequence_camera(self.data_path, folder).resized(self.width, self.height).normalised()

    def baseline(self, folder):
        """Return the length of stereo_T: the camera file's metres, in units in which KITTI's 0.54 m are 0.1."""
        metres = sequence_camera(self.data_path, folder).baseline
        if not metres or not 0 < metres < 1000:
            which = f"{os.path.join(self.data_path, folder)}: {metres}"
            raise UserError("no stereo baseline", which, f'add "baseline": metres to its {CAMERA_FILE}')
        return metres * BASELINE / KITTI_BASELINE

    def has_depth(self):
        """Return whether any sequence has a folder of depth."""
        return self._depth_size is not None

    @functools.cached_property
    def _depth_size(self):
        """The size of the first depth map found, which all items then have."""
        for folder in self.folders():
            home = os.path.join(self.data_path, folder, DEPTH)
            for name in sorted(numbered_files(home, MAPS).values()):
                return read_depth(os.path.join(home, name)).shape
        return None

    def load_depth(self, line):
        """Return a line's depth map, resized to the nearest to the data set's size; zeros without one."""
        home = os.path.join(self.data_path, line.folder, DEPTH)
        name = numbered_files(home, MAPS).get(line.frame) if line.side == "l" else None
        if name is None:
            return np.zeros(self._depth_size, dtype=np.float32)
        return nearest(read_depth(os.path.join(home, name)), *self._depth_size)
