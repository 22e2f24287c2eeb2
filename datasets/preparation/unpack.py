"""From KITTI's archives only what the lists need: a drive's images and scans, a day's calibration, improved maps."""

import contextlib
import os

from datasets.preparation import kitti_drives
from fetching import archives
from kitti_utils import CALIBRATION, frame_path
from system.errors import UserError
from system.files import sweep


def unpack(work, archive, owner, say=print):
    """Unpack what is missing of an archive's owner, a `Drive` or the date of a calibration.

    Raises:
        UserError: a damaged archive (it is removed), one without what it should hold, or a full disk.
    """
    path = work.path(archive)
    try:
        listed = archives.members(path)
        targets = _calibration(work, owner, listed, path) if isinstance(owner, str) else _frames(work, owner, listed)
        for folder in {os.path.dirname(target) for target in targets.values()}:
            sweep(folder)
        size = sum(listed[name].file_size for name in targets)
        archives.check_room(work.data_path, size, f"unpacking {archive.name}")
        archives.unpack(path, targets)
    except archives.CorruptArchive as error:
        os.unlink(path)
        raise UserError(f"{error.what}; it was removed", path, "run the command again to fetch it anew") from error
    say(f"unpacked {len(targets)} files of {archive.name}")
    if work.delete_archives:
        os.unlink(path)


def _calibration(work, date, listed, path):
    targets = {f"{date}/{name}": os.path.join(work.data_path, date, name) for name in CALIBRATION}
    lacking = [name for name in targets if name not in listed]
    if lacking:
        fix = "this is not KITTI's archive of that day: delete it, or give another --base_url"
        raise UserError(f"the archive has no member {lacking[0]}", path, fix)
    return targets


def _frames(work, drive, listed):
    drive.note_contents(work.data_path, listed)
    targets = {}
    for subfolder, frames in drive.fetchable(work.data_path).items():
        ending = kitti_drives.file_ending(subfolder)
        for frame in sorted(frames):
            name = f"{drive.folder}/{subfolder}/{frame:010d}{ending}"
            targets[name] = frame_path(work.data_path, drive.folder, subfolder, frame, ending)
    return targets


def unpack_maps(work, say=print):
    """Unpack KITTI's improved depth maps where a split wants them and the user has put their archive here.

    Raises:
        UserError: maps are wanted and there is no archive.
    """
    wanted = work.missing_maps()
    if not wanted:
        return
    path = os.path.join(work.folder, kitti_drives.MAPS_ARCHIVE)
    if not os.path.exists(path):
        count = sum(len(frames) for maps in wanted.values() for frames in maps.values())
        raise UserError(
            f"{count} improved depth maps are missing",
            path,
            f"fetch {kitti_drives.MAPS_ARCHIVE} (free registration) from {kitti_drives.MAPS_PAGE} "
            f"to this place, then run the command again",
        )
    listed, targets = archives.members(path), {}
    for folder, maps in wanted.items():
        for subfolder, frames in maps.items():
            for frame in sorted(frames):
                name = f"{folder.rpartition('/')[2]}/{subfolder}/{frame:010d}.png"
                target = frame_path(work.data_path, folder, subfolder, frame, ".png")
                targets.update({f"{part}/{name}": target for part in ("train", "val") if f"{part}/{name}" in listed})
    archives.unpack(path, targets)
    say(f"unpacked {len(targets)} improved depth maps")


def drop_spent_archives(work):
    """Remove archives that an earlier run had unpacked without living to remove them."""
    waiting = {archive.name for archive in work.jobs()}
    for drive in work.drives.values():
        spent = [drive.archive, kitti_drives.calibration_archive(drive.date)] if drive.archive else []
        for archive in spent:
            if archive.name not in waiting:
                for path in (work.path(archive), work.path(archive) + ".part.json"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
