"""Whether files are whole, judged by their first and last bytes: cheap enough for tens of thousands of them."""

import concurrent.futures
import os

from datasets.preparation.kitti_drives import file_ending
from kitti_utils import CALIBRATION, CAMERAS, MAPS, POINT_BYTES, frame_path
from system.errors import UserError

SHOWN = 20  # files named one by one before only their number is told

_ENDS = {  # first bytes, last bytes
    ".jpg": (b"\xff\xd8", b"\xff\xd9"),
    ".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
}


def fault(path):
    """Return None for a whole file, else what is wrong with it ("missing", "empty", "cut short")."""
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        return "missing"
    if size == 0:
        return "empty"
    ending = os.path.splitext(path)[1].lower()
    if ending == ".bin":
        return "cut short" if size % POINT_BYTES else None
    if ending not in _ENDS:
        return None
    first, last = _ENDS[ending]
    with open(path, "rb") as file:
        if file.read(len(first)) != first:
            return f"not a {ending[1:].upper()} file"
        file.seek(max(0, size - 64))  # a few stray bytes after the end do no harm
        return None if last in file.read() else "cut short"


def wanted_files(data_path, drives, png=False):
    """Return {path: whether an archive may still hold it} of every file that {folder: Drive} want.

    Args:
        png: the images as PNG, not JPEG.
    """
    paths = {}
    for drive in drives.values():
        contents = drive.contents(data_path)
        for subfolder, frames in drive.wanted(data_path).items():
            image = ".png" if png else ".jpg"
            ending = image if subfolder in CAMERAS.values() else file_ending(subfolder)
            told = contents is not None and subfolder not in MAPS.values()
            archived = contents.get(subfolder, set()) if told else frames
            for frame in sorted(frames):
                path = frame_path(data_path, drive.folder, subfolder, frame, ending)
                paths[path] = frame in archived
    for date in sorted({drive.date for drive in drives.values() if drive.uses_calibration}):
        paths |= {os.path.join(data_path, date, name): True for name in CALIBRATION}
    return paths


def verify(data_path, drives, png=False, say=print):
    """Say whether every wanted file is there and whole; the first twenty that are not are named.

    Raises:
        UserError: some are not.
    """
    paths = wanted_files(data_path, drives, png)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        faulty = {path: what for path, what in zip(paths, pool.map(fault, paths), strict=True) if what}
    unknown = {path for path, what in faulty.items() if what == "missing" and not paths[path]}
    for path in unknown:
        faulty[path] = "not in the drive's archive"
    for path, what in list(faulty.items())[:SHOWN]:
        say(f"{what}: {os.path.relpath(path, data_path)}")
    if len(faulty) > SHOWN:
        say(f"... and {len(faulty) - SHOWN} more")
    if faulty:
        which = f"{len(faulty)} of {len(paths)} files are missing or broken"
        raise UserError(which, data_path, _advice(set(faulty.values())))
    say(f"verified {len(paths)} files")


def _advice(faults):
    """Return how to mend what `fault` found."""
    advice = []
    if faults - {"missing", "not in the drive's archive"}:
        advice.append("delete the broken ones")
    if faults - {"not in the drive's archive"}:
        advice.append("run the download, unpack and convert steps again")
    if "not in the drive's archive" in faults:
        advice.append("leave lines out of the split whose frames KITTI does not have")
    return ", then ".join(advice)
