"""Synthetic drives on disk, in KITTI raw layout, and what a reader needs to know about them.

Under the output folder: `<DATE>/` with the calibration, the drives and `synthetic.json` (the settings, from which
`dense_depth` casts any frame again), and `splits/synthetic/` with the lists of frames. Each of the two folders
appears whole or not at all. Each drive has, beside KITTI's folders, `poses.txt`: one line per frame, the first
three rows of the world-from-left-camera transform.
"""

import concurrent.futures
import concurrent.futures.process
import functools
import io
import json
import os
import signal

import numpy as np
from PIL import Image

from kitti_utils import CALIBRATION, CAMERAS, SCANS, frame_path, scan_path
from system import files
from system.errors import UserError

from . import camera
from .drive import Drive

DATE = "2000_01_01"
SPLIT = os.path.join("splits", "synthetic")
MANIFEST = "synthetic.json"
VERSION = 1  # counts changes of the street: settings of another version mean other pictures
JPEG = {"quality": 92, "subsampling": "4:2:0"}  # as the KITTI pictures behind the published results
CHUNK = 4  # frames that a worker takes at a time, in order: each worker builds each world once
VALIDATION_STEP = 10  # every tenth training frame is set aside


def drive_name(number):
    """Folder of a drive below the date's, drives counted from 1."""
    return f"{DATE}_drive_{number:04d}_sync"


def read_settings(root):
    """Settings of the drives under `root`, a dict.

    Raises:
        UserError: there are none.
    """
    path = os.path.join(root, DATE, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError("no synthetic drives here", path, "run python -m demo.street --out first") from error
    if settings.get("version") != VERSION:
        raise UserError("drives of another version", path, "run python -m demo.street --force again")
    return settings


def read_poses(root, number):
    """World-from-left-camera transforms of drive `number`, (frames, 4, 4) float64."""
    path = os.path.join(root, DATE, drive_name(number), "poses.txt")
    rows = np.loadtxt(path, ndmin=2).reshape(-1, 3, 4)
    last = np.broadcast_to([[[0.0, 0, 0, 1]]], (len(rows), 1, 4))
    return np.concatenate([rows, last], 1)


@functools.lru_cache(maxsize=1)
def open_drive(seed, number, frames, width, height, step, samples):
    """The world behind drive `number` of the set with this `seed` (kept, since frames come one by one)."""
    return Drive(seed * 1000 + number, frames, camera.Rig(width, height), step, samples)


def _drive(settings, number):
    names = ("seed", "frames", "width", "height", "step", "samples")
    values = {name: settings[name] for name in names}
    return open_drive(number=number, **values)


def dense_depth(root, number, frame, side="l"):
    """True depth at every pixel of a written picture, in metres, (H, W) float32, infinite in the sky.

    Args:
        root: the folder given as `--out`.
        number: of the drive, from 1.
        frame: of the drive, from 0.
        side: "l" (image_02) or "r" (image_03).

    Raises:
        UserError: no drives under `root`.
        IndexError: no such frame.
    """
    settings = read_settings(root)
    if not 1 <= number <= settings["drives"] + 1 or not 0 <= frame < settings["frames"]:
        raise IndexError(f"no frame {frame} of drive {number}")
    return _drive(settings, number).depth(frame, side)


def write_drives(root, settings, workers=2, progress=lambda done, total: None):
    """Render and write everything.

    Args:
        settings: seed, drives (for training; one more is the test drive), frames (per drive), width, height, step
            (metres per frame), samples (rays per pixel and axis), scan_every (frames per laser scan).
        workers: processes; the result does not depend on it.
        progress: called with the numbers of frames done and to do.

    Raises:
        UserError: `root` cannot be written to.
    """
    settings = dict(settings, version=VERSION)
    numbers = range(1, settings["drives"] + 2)
    with files.replacing_folder(os.path.join(root, DATE)) as folder:
        for number in numbers:
            for name in (*CAMERAS.values(), SCANS):
                os.makedirs(os.path.join(folder, drive_name(number), name))
        tasks = [(folder, settings, number, frame) for number in numbers for frame in range(settings["frames"])]
        progress(0, len(tasks))
        for done, _ in enumerate(_run(tasks, workers), 1):
            progress(done, len(tasks))
        for name, text in zip(CALIBRATION, (_rig(settings).calibration(), camera.scanner_calibration()), strict=True):
            files.write_text(os.path.join(folder, name), text)
        files.write_json(os.path.join(folder, MANIFEST), settings)
    with files.replacing_folder(os.path.join(root, SPLIT)) as folder:
        for part, lines in split_lines(settings).items():
            files.write_text(os.path.join(folder, f"{part}_files.txt"), "".join(f"{line}\n" for line in lines))


def _rig(settings):
    return camera.Rig(settings["width"], settings["height"])


def _run(tasks, workers):
    if workers <= 1:
        yield from map(_write_frame, tasks)
        return
    with concurrent.futures.ProcessPoolExecutor(workers, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            yield from pool.map(_write_frame, tasks, chunksize=CHUNK)
        except concurrent.futures.process.BrokenProcessPool:
            raise UserError("a worker process was killed", f"--workers {workers}", "give fewer (memory?)") from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _leave_interrupts_to_the_parent():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_frame(task):
    """Write the pictures and the scan of one frame, with the first also all poses, into the still hidden folder."""
    folder, settings, number, frame = task
    drive = _drive(settings, number)
    home = drive_name(number)
    for side, name in CAMERAS.items():
        encoded = io.BytesIO()
        Image.fromarray(drive.picture(frame, side)).save(encoded, "JPEG", **JPEG)
        _write(frame_path(folder, home, name, frame, ".jpg"), encoded.getvalue())
    if frame % settings["scan_every"] == 0:
        _write(scan_path(folder, home, frame), drive.scan(frame).tobytes())
    if frame == 0:
        lines = (" ".join(f"{value:.9e}" for value in pose[:3].ravel()) for pose in drive.poses)
        _write(os.path.join(folder, home, "poses.txt"), "".join(f"{line}\n" for line in lines).encode())


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def split_lines(settings):
    """Lines of train, val and test: `<folder> <frame> <l|r>`; training frames have neighbours, test frames a scan."""
    train, val = [], []
    for number in range(1, settings["drives"] + 1):
        for frame in range(1, settings["frames"] - 1):
            part = val if frame % VALIDATION_STEP == VALIDATION_STEP // 2 else train
            part.extend(f"{DATE}/{drive_name(number)} {frame} {side}" for side in CAMERAS)
    folder = f"{DATE}/{drive_name(settings['drives'] + 1)}"
    test = [f"{folder} {frame} l" for frame in range(0, settings["frames"], settings["scan_every"])]
    return {"train": train, "val": val, "test": test}
