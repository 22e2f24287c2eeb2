"""What is still to be done for a KITTI folder, what it needs of the network and the disk, and telling so beforehand."""

import dataclasses
import os
import urllib.parse

from datasets.preparation import kitti_drives
from fetching import archives, download
from fetching.downloads import Problems, sizes_of
from system.errors import UserError
from system.files import size_text

# Means over KITTI raw, in bytes a file, for the estimate of disk space.
TYPICAL_SIZE = {".png": 830_000, ".jpg": 165_000, ".bin": 1_950_000}


DEEPEST = 200  # folders above the data


@dataclasses.dataclass
class Work:
    """One KITTI folder and what is wanted of it: what every step is given.

    Attributes:
        data_path: the folder, in KITTI raw layout; made when it is not there.
        drives: {folder: Drive} as `kitti_drives.wanted_drives` gives them.
        base_url: where the archives are.
        parallel: downloads at once; retries: failed attempts before giving up.
        workers: processes for conversion, None for all cores.
        png: the images stay PNG. delete_archives, delete_png: they go once unpacked, or converted.
        problems: what went wrong with one drive while others went on.
    """

    data_path: str
    drives: dict
    base_url: str = kitti_drives.BASE_URL
    parallel: int = 4
    retries: int = download.RETRIES
    workers: int | None = None
    png: bool = False
    delete_archives: bool = False
    delete_png: bool = False
    problems: Problems = dataclasses.field(default_factory=Problems)

    def __post_init__(self):
        self.data_path, self.base_url = os.path.abspath(self.data_path), self.base_url.rstrip("/")
        if self.data_path.count(os.sep) > DEEPEST:
            raise UserError(
                f"a path more than {DEEPEST} folders deep", self.data_path[:200], "choose another --data_path"
            )

    @property
    def folder(self):
        """Where archives are kept."""
        return os.path.join(self.data_path, "archives")

    def path(self, archive):
        """Return where an archive is kept."""
        return os.path.join(self.folder, archive.name)

    def url(self, archive):
        """Return where an archive comes from."""
        return f"{self.base_url}/{archive.address}"

    def jobs(self):
        """Return {Archive: Drive or date} still to be unpacked; calibrations first, they are small."""
        drives = [drive for drive in self.drives.values() if drive.archive and drive.fetchable(self.data_path)]
        dates = {drive.date for drive in drives}
        dates |= {drive.date for drive in self.drives.values() if drive.archive and drive.uses_calibration}
        lacking = [date for date in sorted(dates) if kitti_drives.calibration_missing(self.data_path, date)]
        return {kitti_drives.calibration_archive(date): date for date in lacking} | {
            drive.archive: drive for drive in drives
        }

    def here(self, archive):
        """Whether an archive has been fetched."""
        return os.path.exists(self.path(archive))

    def missing_maps(self):
        """Return {drive's folder: {subfolder: frames}} of the improved depth maps that are wanted and not there."""
        missing = {}
        for drive in self.drives.values():
            maps = {name: frames for name, frames in drive.missing(self.data_path).items() if name.startswith("proj_")}
            if maps:
                missing[drive.folder] = maps
        return missing


def _say(text):
    print(text, flush=True)  # before anything waits for a server


def ask_sizes(work, say=_say):
    """Say what is to be fetched and from where, then ask the server for the sizes.

    Returns:
        {Archive: bytes, 0 where the server is silent} of the archives that can be fetched.
    """
    absent = [archive for archive in work.jobs() if not work.here(archive)]
    if not absent:
        return {}
    host = urllib.parse.urlsplit(work.base_url).netloc or work.base_url
    say(f"{len(work.drives)} drives wanted, {len(absent)} archives to download from {host}")
    try:  # one request, before all the others wait for a server that cannot be reached
        download.describe(work.url(absent[0]), retries=min(work.retries, 2), timeout=10)
    except UserError as error:
        if getattr(error, "unreachable", None):
            say(f"their sizes cannot be asked: no connection to {host} ({error.unreachable})")
            fix = "check the connection or give another --base_url, then run the command again"
            problem = f"no connection to {host} ({error.unreachable}), {len(absent)} archives cannot be fetched"
            work.problems.stop(UserError(problem, work.base_url, fix))
            return {}
        if not hasattr(error, "status") or error.status is None:
            raise
    sizes = sizes_of({archive: work.url(archive) for archive in absent}, work.problems, retries=work.retries)
    if not sizes:
        first = work.problems.errors[0]
        problem = f"none of the {len(absent)} archives is to be had: {first.what}"
        work.problems.stop(UserError(problem, first.which, "check --base_url"))
    there = sum(download.part_length(work.path(archive)) for archive in absent)
    say(f"{len(sizes)} of them found: {size_text(sum(sizes.values()))} ({size_text(there)} of it here already)")
    return sizes


def check_space(work, sizes, unpacking, converting, say=print):
    """Say how much disk space the work takes.

    Raises:
        UserError: the disk is too small.
    """
    there = sum(download.part_length(work.path(archive)) for archive in sizes)
    lasting, passing = _space(work, sizes, there, unpacking, converting)
    say(
        f"disk: {size_text(lasting)} more when done, up to {size_text(lasting + passing)} while at work, "
        f"{size_text(archives.free_bytes(work.data_path))} free in {work.data_path}"
    )
    thrift = {"--delete_archives": work.delete_archives, "--delete_png": work.delete_png or work.png}
    thrift["--parallel 1"] = work.parallel == 1
    more = " ".join(option for option, given in thrift.items() if not given)
    fix = f"free some space, or add {more}" if more else "free some space, or choose another --data_path"
    archives.check_room(work.data_path, lasting + passing, "the preparation", fix)


def _space(work, sizes, there, unpacking, converting):
    """Return (bytes that stay, bytes needed only while at work), from typical file sizes."""
    lasting = passing = largest_pngs = 0
    drives = [owner for owner in work.jobs().values() if isinstance(owner, kitti_drives.Drive)]
    for drive in drives if unpacking else ():
        for subfolder, frames in drive.fetchable(work.data_path).items():
            ending = kitti_drives.file_ending(subfolder)
            raw = len(frames) * TYPICAL_SIZE[ending]
            if ending == ".png" and converting:
                lasting += len(frames) * TYPICAL_SIZE[".jpg"] + (0 if work.delete_png else raw)
                largest_pngs = max(largest_pngs, 2 * raw if work.delete_png else 0)
            else:
                lasting += raw
    if work.delete_archives and unpacking:  # only those in flight, at worst the largest
        passing += max(0, sum(sorted(sizes.values())[-work.parallel :]) - there)
    else:
        lasting += max(0, sum(sizes.values()) - there)
    return lasting, passing + largest_pngs
