"""What splits need of KITTI raw: which frames of which drives, what of it is here, and which archives hold the rest.

Layout and archive names are those of the KITTI raw data page (Geiger et al., IJRR 2013): a drive's archive holds four
cameras, LiDAR and GPS; of these only the colour images that the lists name, their neighbours in time, and the scans
that ground truth needs are ever unpacked.
"""

import functools
import json
import os
import re
from typing import NamedTuple

from datasets.splits import IMPROVED_SPLITS, parse_line, resolve_split
from datasets.splits import frames as frame_numbers
from kitti_utils import CALIBRATION, CAMERAS, MAPS, SCANS
from system.errors import UserError
from system.files import write_json

BASE_URL = "https://s3.eu-central-1.amazonaws.com/avg-kitti/raw_data"
MAPS_ARCHIVE = "data_depth_annotated.zip"  # KITTI's improved depth maps, behind a registration
MAPS_PAGE = "https://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction"
IMAGE_ENDINGS = (".jpg", ".png")
_FOLDER = re.compile(r"(\d{4}_\d\d_\d\d)/(\1_drive_\d{4})_sync")
_CONTENTS = ".contents.json"  # beside a drive's folders: which frames its archive has


class Archive(NamedTuple):
    """One zip file of the raw data: its file name, and its address below the base address."""

    name: str
    address: str


class Drive:
    """What is wanted of one drive.

    Attributes:
        folder: below the data path, such as 2011_09_26/2011_09_26_drive_0001_sync.
        required: {subfolder: set of frame numbers} named by the lists themselves.
        neighbours: the same for frames that are wanted where the drive has them (before and after a list's frame).
    """

    def __init__(self, folder):
        self.folder = folder
        self.required, self.neighbours = {}, {}

    @property
    def date(self):
        return self.folder.partition("/")[0]

    @property
    def archive(self):
        """The `Archive`, or None for a drive that KITTI does not have."""
        match = _FOLDER.fullmatch(self.folder)
        return Archive(f"{match[2]}_sync.zip", f"{match[2]}/{match[2]}_sync.zip") if match else None

    @property
    def uses_calibration(self):
        """Whether scans are wanted, which mean nothing without calibration."""
        return SCANS in self.required or SCANS in self.neighbours

    def need(self, subfolder, frames, required=True):
        """Add frame numbers to what is wanted."""
        (self.required if required else self.neighbours).setdefault(subfolder, set()).update(frames)

    def wanted(self, data_path):
        """Return {subfolder: frames} that this drive should have on the disk, as far as KITTI has them."""
        contents = self.contents(data_path)
        wanted = {}
        for subfolder in sorted({*self.required, *self.neighbours}):
            named = self.required.get(subfolder, set())
            beside = self.neighbours.get(subfolder, set()) - named
            if contents is not None:
                beside &= contents.get(subfolder, set())
            elif named:  # KITTI unpacked by others: a drive ends where its files end
                there = frames_on_disk(os.path.join(data_path, self.folder, subfolder))
                if named <= there and subfolder != SCANS:
                    beside = {frame for frame in beside if frame <= max(there)}
            wanted[subfolder] = named | beside
        return wanted

    def missing(self, data_path):
        """Return {subfolder: frames} that are wanted and in no form on the disk; empty subfolders are left out."""
        missing = {}
        for subfolder, frames in self.wanted(data_path).items():
            gone = frames - frames_on_disk(os.path.join(data_path, self.folder, subfolder))
            if gone:
                missing[subfolder] = gone
        return missing

    def fetchable(self, data_path):
        """Return what is missing and may be in the drive's archive (improved depth maps never are)."""
        contents = self.contents(data_path)
        missing = {name: frames for name, frames in self.missing(data_path).items() if name not in MAPS.values()}
        if contents is not None:
            missing = {name: frames & contents.get(name, set()) for name, frames in missing.items()}
        return {name: frames for name, frames in missing.items() if frames}

    def contents(self, data_path):
        """Return {subfolder: frames} of the drive's archive as noted when it was unpacked, or None."""
        return _read_contents(os.path.join(data_path, self.folder, _CONTENTS))

    def note_contents(self, data_path, members):
        """Note which frames an archive has, given its member names."""
        contents = {}
        for name in members:
            folder, _, file = name.rpartition("/")
            number = file.partition(".")[0]
            if folder.startswith(self.folder + "/") and number.isdigit():
                subfolder = folder[len(self.folder) + 1 :]
                if subfolder in (*CAMERAS.values(), SCANS):
                    contents.setdefault(subfolder, []).append(int(number))
        path = os.path.join(data_path, self.folder, _CONTENTS)
        write_json(path, {name: _ranges(frames) for name, frames in contents.items()})
        _read_contents.cache_clear()


def wanted_drives(splits, frame_ids=(0, -1, 1), use_stereo=False, lidar=("test",)):
    """Work out what the splits want.

    Args:
        splits: published names or folders.
        frame_ids: as in training; the neighbours of training and validation frames.
        use_stereo: also the other camera of every training and validation frame.
        lidar: the parts (train, val, test) that are to have LiDAR scans.
    Returns:
        (drives by folder in sorted order, lines of text about what was left out)
    Raises:
        UserError: unknown split, a malformed line, or a split whose images are not in KITTI raw at all.
    """
    drives, notes = {}, []
    offsets = [frame for frame in frame_ids if frame]
    for split in map(resolve_split, splits):
        for part in split.parts():
            lines = split.lines(part)
            if split.published and not all(line.startswith("20") for line in lines[:1] + lines[-1:]):
                if part == "train" or split.name == "odom":
                    raise UserError(
                        "this split is not made of KITTI raw drives",
                        split.name,
                        "see www.cvlibs.net/datasets/kitti/eval_odometry.php for KITTI's odometry images",
                    )
                notes.append(f"{split.name}: the {part} list is not part of KITTI raw and is left out")
                continue
            maps = part == "test" and split.name in IMPROVED_SPLITS
            where = split.where(part)
            for number, text in enumerate(lines, 1):
                line = parse_line(text, f"{where} {number}")
                drive = drives.setdefault(line.folder, Drive(line.folder))
                _add(drive, line, part, offsets, use_stereo, part in lidar, maps)
    return {folder: drives[folder] for folder in sorted(drives)}, notes


def _add(drive, line, part, offsets, use_stereo, scan, maps):
    camera = CAMERAS[line.side]
    drive.need(camera, (line.frame,))
    if part != "test":
        drive.need(camera, (line.frame + offset for offset in offsets if line.frame + offset >= 0), required=False)
        if use_stereo:
            drive.need(CAMERAS["r" if line.side == "l" else "l"], (line.frame,))
    if maps:
        drive.need(MAPS[line.side], (line.frame,))
    elif scan:
        drive.need(SCANS, (line.frame,), required=part == "test")


def calibration_archive(date):
    """Return the `Archive` of a day's calibration."""
    return Archive(f"{date}_calib.zip", f"{date}_calib.zip")


def calibration_missing(data_path, date):
    """Return the calibration files of a day that are not there."""
    return [name for name in CALIBRATION if not os.path.isfile(os.path.join(data_path, date, name))]


def frames_on_disk(folder):
    """Return the numbers of the frames in a folder, images in either form, scans or maps alike."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return set()
    parts = (os.path.splitext(name) for name in names)
    return {
        int(stem) for stem, ending in parts if len(stem) == 10 and stem.isdigit() and ending in (*IMAGE_ENDINGS, ".bin")
    }


def file_ending(subfolder):
    """Return the ending of the files as they are in the archive."""
    return ".bin" if subfolder == SCANS else ".png"


@functools.cache
def _read_contents(path):
    try:
        with open(path, encoding="utf-8") as file:
            return {name: set(frame_numbers(text)) for name, text in json.load(file).items()}
    except (OSError, ValueError, AttributeError):
        return None


def _ranges(numbers):
    """Return sorted numbers as text: 0-107,110."""
    pieces = []
    for number in sorted(set(numbers)):
        if pieces and number == pieces[-1][1] + 1:
            pieces[-1][1] = number
        else:
            pieces.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in pieces)
