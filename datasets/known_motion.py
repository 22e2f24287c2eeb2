"""How far the camera moved between the frames of an item: from a drive's oxts/, poses.txt or speed.txt.

    <drive>/poses.txt            KITTI poses, twelve numbers a line, one line for each frame; the odometry benchmark's
                                 poses/<sequence>.txt as well
    <drive>/oxts/data/<frame>.txt   KITTI raw: the ninth number is the forward speed; times from oxts/timestamps.txt
    <drive>/speed.txt            two numbers a line, one line for each frame: seconds, metres a second

The first of them that a drive has is used. A line or file belongs to the frame of its number, 0 first; for --dataset
frames to the frames in their order.
"""

import datetime
import os

import numpy as np
import torch

from datasets.frames_dataset import FramesDataset
from datasets.frames_layout import numbered_files
from datasets.trajectories import read_poses
from system.errors import UserError, from_os_error
from system.files import open_regular

FORWARD_SPEED = 8  # place of vf among the numbers of an oxts file, metres a second
OXTS_SECONDS = 0.1  # between two oxts files where no times are given: KITTI's 10 Hz
SPEED_FORM = "write two numbers a line, one line for each frame: seconds, metres a second"


class KnownMotion:
    """One of `MonoDataset.extras`: adds "distance", (frames in time,) float32 metres from frame 0, 0 where unknown."""

    def __init__(self):
        self._drives = {}

    def __call__(self, dataset, index, flip):
        offsets = [frame for frame in dataset.frame_idxs if frame not in (0, "s")]
        folder, number, side = dataset.frame_of(index, 0)
        drive = self._drive(dataset, folder, side)
        ways = [drive.distance(number, dataset.frame_of(index, offset)[1]) if drive else 0.0 for offset in offsets]
        return {"distance": torch.tensor(ways, dtype=torch.float32)}

    def check(self, dataset):
        """Read the motion of all drives; return for how many of the lines it is known.

        Raises:
            UserError: for none, or a file is damaged.
        """
        known = sum(bool(self(dataset, index, False)["distance"].any()) for index in range(len(dataset)))
        if not known:
            raise UserError("no drive says how far it moved", f"--speed_weight with {dataset.data_path}",
                            "put oxts/, poses.txt or speed.txt into the drives' folders, or leave it out")  # fmt: skip
        return known

    def _drive(self, dataset, folder, side):
        if (folder, side) not in self._drives:
            self._drives[folder, side] = _read_drive(dataset, folder, side)
        return self._drives[folder, side]


class _Poses:
    """Camera positions (n, 3) in metres."""

    def __init__(self, positions):
        self.positions = positions

    def __len__(self):
        return len(self.positions)

    def distance(self, one, other):
        return float(np.linalg.norm(self.positions[one] - self.positions[other]))


class _Speeds:
    """Times (n,) in seconds and forward speeds (n,) in metres a second, NaN where unknown; distances follow the
    trapezoidal rule."""

    def __init__(self, seconds, speeds):
        self.ways = np.diff(seconds) * (speeds[1:] + speeds[:-1]) / 2

    def __len__(self):
        return len(self.ways) + 1

    def distance(self, one, other):
        return abs(float(self.ways[min(one, other) : max(one, other)].sum()))


class _Drive:
    """The motion of one drive, `_Poses` or `_Speeds`, by frame numbers: `numbers` in order, or 0, 1, ..."""

    def __init__(self, motion, numbers=None):
        self.motion = motion
        self.rows = {number: row for row, number in enumerate(range(len(motion)) if numbers is None else numbers)}

    def distance(self, one, other):
        """Return the metres between two frames, 0 where they are not known."""
        rows = [self.rows.get(number, len(self.motion)) for number in (one, other)]
        way = self.motion.distance(*rows) if max(rows) < len(self.motion) else 0.0
        return way if np.isfinite(way) else 0.0


def _read_drive(dataset, folder, side):
    home = os.path.join(dataset.data_path, folder)
    is_video = isinstance(dataset, FramesDataset)  # whose numbers need not begin with 0
    numbers = sorted(numbered_files(os.path.dirname(dataset.image_path(folder, 0, side)))) if is_video else None
    for path in (os.path.join(home, "poses.txt"), os.path.join(dataset.data_path, "poses", f"{folder}.txt")):
        if os.path.isfile(path):
            return _Drive(_Poses(read_poses(path)[:, :3, 3]), numbers)
    if os.path.isdir(os.path.join(home, "oxts", "data")):
        return _Drive(_Speeds(*_read_oxts(os.path.join(home, "oxts"))))
    if os.path.isfile(os.path.join(home, "speed.txt")):
        return _Drive(_Speeds(*_read_speeds(os.path.join(home, "speed.txt"))), numbers)
    return None


def _read_oxts(folder):
    """Return (seconds, speeds) of frames 0 to the last that has a file; NaN where one is missing."""
    data = os.path.join(folder, "data")
    names = numbered_files(data, (".txt",))
    count = max(names, default=-1) + 1
    speeds = np.full(count, np.nan)
    for number, name in names.items():
        values = _numbers(os.path.join(data, name))
        if values.shape[0] != 1 or values.shape[1] <= FORWARD_SPEED:
            which = f"{os.path.join(data, name)}: {values.size} numbers"
            raise UserError("not a file of KITTI's oxts", which, "unpack the drive's oxts again")
        speeds[number] = values[0, FORWARD_SPEED]
    seconds = np.arange(count) * OXTS_SECONDS
    times = os.path.join(folder, "timestamps.txt")
    if os.path.isfile(times):
        stamps = _read_times(times)
        if len(stamps) < count:
            which = f"{times}: {len(stamps)} for {count} frames"
            raise UserError("fewer times than frames", which, "unpack the drive's oxts again")
        seconds = stamps[:count]
    return seconds, speeds


def _read_times(path):
    try:
        with open_regular(path, encoding="utf-8") as file:
            stamps = [datetime.datetime.fromisoformat(line.strip()[:26]) for line in file if line.strip()]
    except OSError as error:
        raise from_os_error(error, path) from error
    except ValueError as error:
        raise UserError("not a file of times", f"{path}: {error}", "unpack the drive's oxts again") from None
    return np.array([(stamp - stamps[0]).total_seconds() for stamp in stamps])


def _read_speeds(path):
    values = _numbers(path)
    if values.shape[1] != 2 or not np.isfinite(values).all() or (np.diff(values[:, 0]) <= 0).any():
        which = f"{path}: {values.shape[1]} numbers a line" if values.shape[1] != 2 else path
        raise UserError("not a file of speeds", which, f"{SPEED_FORM}, and times that grow")
    return values[:, 0], values[:, 1]


def _numbers(path):
    """Return the numbers of a text, (lines, numbers a line)."""
    try:
        with open_regular(path, encoding="utf-8") as file:
            rows = [[float(word) for word in line.split()] for line in file if line.strip()]
        return np.array(rows, np.float64).reshape(len(rows), -1)
    except OSError as error:
        raise from_os_error(error, path) from error
    except ValueError as error:
        raise UserError("a text that is not numbers", f"{path}: {error}", SPEED_FORM) from None
