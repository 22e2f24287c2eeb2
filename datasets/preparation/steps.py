"""The steps from archives on a server to a KITTI folder that training and evaluation read.

Each step looks at what is on the disk, does what is left to do, and leaves only whole files; so any of them can be
broken off anywhere, repeated, and run alone. Drives go through download, unpack and convert one after another while
the next archives are already on their way, which keeps the disk space at work small.
"""

import contextlib
import os

from datasets.preparation import kitti_drives
from datasets.preparation.convert import convert_all, waiting_pngs
from datasets.preparation.kitti_drives import CALIBRATION, MAPS, TYPICAL_SIZE, frame_path
from datasets.preparation.verification import fault
from fetching import archives, download
from fetching.downloads import Problems, Wanted, arriving, sizes_of
from system.errors import UserError
from system.files import size_text, sweep
from system.progress import Progress

STEPS = ("download", "unpack", "convert", "ground_truth", "verify")


class Preparation:
    """One run for one KITTI folder.

    Args:
        data_path: the folder, in KITTI raw layout; made when it is not there.
        drives: {folder: Drive} as `kitti_drives.wanted_drives` gives them.
        base_url: where the archives are.
        parallel: downloads at once. workers: processes for conversion, None for all cores.
        delete_archives, delete_png: whether archives go once unpacked, and PNGs once converted.
        use_png: the images stay PNG (no conversion is planned).
        say: prints one line of the report.
    """

    def __init__(
        self,
        data_path,
        drives,
        *,
        base_url=kitti_drives.BASE_URL,
        parallel=4,
        workers=None,
        delete_archives=False,
        delete_png=False,
        steps=STEPS,
        say=print,
        **patience,
    ):
        self.data_path, self.drives = os.path.abspath(data_path), drives
        self.base_url = base_url.rstrip("/")
        self.parallel, self.workers, self.patience = parallel, workers, patience
        self.delete_archives, self.delete_png = delete_archives, delete_png
        self.steps, self.say, self.problems = steps, say, Problems()
        self.folder = os.path.join(self.data_path, "archives")

    # --- what there is to do ---------------------------------------------------------------------------------

    def jobs(self):
        """Return [(Archive, Drive or date)] still to be unpacked; calibrations first, they are small."""
        drives = [drive for drive in self.drives.values() if drive.archive and drive.fetchable(self.data_path)]
        dates = {drive.date for drive in drives}
        dates |= {drive.date for drive in self.drives.values() if drive.archive and drive.uses_calibration}
        calibrations = [
            (kitti_drives.calibration_archive(date), date)
            for date in sorted(dates)
            if kitti_drives.calibration_missing(self.data_path, date)
        ]
        return calibrations + [(drive.archive, drive) for drive in drives]

    def archive_path(self, archive):
        """Return where an archive is kept."""
        return os.path.join(self.folder, archive.name)

    def plan(self):
        """Ask the server for sizes, say what is ahead, and make sure that the disk has room for it.

        Returns:
            {archive name: bytes} of the archives to be downloaded, for those that the server tells.
        Raises:
            UserError: the disk is too small.
        """
        jobs = self.jobs()
        absent = [archive for archive, _ in jobs if not os.path.exists(self.archive_path(archive))]
        urls = {archive.name: self._url(archive) for archive in absent} if "download" in self.steps else {}
        sizes = sizes_of(urls, self.problems, **self.patience)
        there = sum(download.part_length(self.archive_path(archive)) for archive in absent)
        lasting, passing = self._space(jobs, sizes, there)
        free = archives.free_bytes(self.data_path)
        self.say(
            f"{len(self.drives)} drives wanted, {len(jobs)} archives still to unpack, {len(sizes)} of them to "
            f"download: {size_text(sum(sizes.values()))} ({size_text(there)} of it here already)"
        )
        self.say(
            f"disk: {size_text(lasting)} more when done, up to {size_text(lasting + passing)} while at work, "
            f"{size_text(free)} free in {self.data_path}"
        )
        if jobs:
            archives.check_room(
                self.data_path,
                lasting + passing,
                "the preparation",
                "free some space, or add --delete_archives --delete_png --parallel 1",
            )
        return sizes

    def _space(self, jobs, sizes, there):
        """Return (bytes that stay, bytes needed only while at work), from typical file sizes."""
        drives = [drive for _, drive in jobs if isinstance(drive, kitti_drives.Drive)]
        unpacking, converting = "unpack" in self.steps, "convert" in self.steps
        lasting = passing = largest_pngs = 0
        for drive in drives if unpacking else ():
            for subfolder, frames in drive.fetchable(self.data_path).items():
                ending = kitti_drives.file_ending(subfolder)
                raw = len(frames) * TYPICAL_SIZE[ending]
                if ending == ".png" and converting:
                    lasting += len(frames) * TYPICAL_SIZE[".jpg"] + (0 if self.delete_png else raw)
                    largest_pngs = max(largest_pngs, 2 * raw if self.delete_png else 0)
                else:
                    lasting += raw
        if self.delete_archives and unpacking:  # only those in flight, at worst the largest
            passing += max(0, sum(sorted(sizes.values())[-self.parallel :]) - there)
        else:
            lasting += max(0, sum(sizes.values()) - there)
        return lasting, passing + largest_pngs

    def _url(self, archive):
        return f"{self.base_url}/{archive.address}"

    # --- download, unpack, convert ---------------------------------------------------------------------------

    def idle(self):
        """Whether nothing is left to download, unpack or convert; nothing is written then, so no lock is needed."""
        if {"download", "unpack"} & {*self.steps} and self.jobs():
            return False
        if "unpack" in self.steps and (self.delete_archives and os.path.isdir(self.folder) or self._missing_maps()):
            return False
        return not ("convert" in self.steps and waiting_pngs(self.data_path, self.drives, self.delete_png))

    def bring(self):
        """Run the steps download, unpack and convert, as far as they are asked for."""
        sweep(self.folder)
        files_ahead = "download" in self.steps or "unpack" in self.steps
        sizes = self.plan() if files_ahead else {}
        if files_ahead:
            with contextlib.closing(self._arriving(sizes)) as jobs:
                for archive, owner in jobs:
                    if "unpack" in self.steps:
                        with self.problems.collected():
                            self._unpack(archive, owner)
                            if "convert" in self.steps and isinstance(owner, kitti_drives.Drive):
                                self.convert({owner.folder: owner})
        if "unpack" in self.steps:
            with self.problems.collected():
                self._unpack_maps()
        if "convert" in self.steps:
            with self.problems.collected():
                self.convert(self.drives)
        if "unpack" in self.steps and self.delete_archives:
            self._drop_spent_archives()

    def _drop_spent_archives(self):
        """Remove archives that an earlier run had unpacked without living to remove them."""
        waiting = {archive.name for archive, _ in self.jobs()}
        for drive in self.drives.values():
            spent = [drive.archive, kitti_drives.calibration_archive(drive.date)] if drive.archive else []
            for archive in spent:
                if archive.name not in waiting:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.archive_path(archive))
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.archive_path(archive) + ".part.json")

    def _arriving(self, sizes):
        """Yield the jobs whose archives are here, in the order in which they arrive."""
        jobs = self.jobs()
        ready = [job for job in jobs if os.path.exists(self.archive_path(job[0]))]
        ahead = [job for job in jobs if job not in ready and job[0].name in sizes]
        if "download" not in self.steps and len(ready) < len(jobs):
            lacking = next(archive for archive, _ in jobs if not os.path.exists(self.archive_path(archive)))
            self.problems.errors.append(
                UserError(
                    f"{len(jobs) - len(ready)} archives are not here",
                    self.archive_path(lacking),
                    "run the download step, or put them there by hand",
                )
            )
        yield from ready
        wanted = {
            Wanted(self._url(archive), self.archive_path(archive), sizes[archive.name] or None): (archive, owner)
            for archive, owner in ahead
        }
        with contextlib.closing(arriving(list(wanted), self.parallel, self.problems, **self.patience)) as brought:
            for file in brought:
                yield wanted[file]

    def _unpack(self, archive, owner):
        path = self.archive_path(archive)
        try:
            listed = archives.members(path)
            if isinstance(owner, str):
                targets = {
                    f"{owner}/{name}": os.path.join(self.data_path, owner, name)
                    for name in CALIBRATION
                    if f"{owner}/{name}" in listed
                }
            else:
                owner.note_contents(self.data_path, listed)
                targets = {
                    f"{owner.folder}/{subfolder}/{frame:010d}{kitti_drives.file_ending(subfolder)}": frame
                    for subfolder, frames in owner.fetchable(self.data_path).items()
                    for frame in sorted(frames)
                }
                targets = {name: os.path.join(self.data_path, *name.split("/")) for name in targets}
            for folder in {os.path.dirname(target) for target in targets.values()}:
                sweep(folder)
            size = sum(listed[name].file_size for name in targets)
            archives.check_room(self.data_path, size, f"unpacking {archive.name}")
            archives.unpack(path, targets)
        except archives.CorruptArchive as error:
            os.unlink(path)
            raise UserError(f"{error.what}; it was removed", path, "run the command again to fetch it anew") from error
        self.say(f"unpacked {len(targets)} files of {archive.name}")
        if self.delete_archives:
            os.unlink(path)

    def _missing_maps(self):
        wanted = {drive.folder: drive.missing(self.data_path).get(MAPS) for drive in self.drives.values()}
        return {folder: frames for folder, frames in wanted.items() if frames}

    def _unpack_maps(self):
        """Unpack KITTI's improved depth maps where a split wants them and the user has put their archive here."""
        path = os.path.join(self.folder, kitti_drives.MAPS_ARCHIVE)
        wanted = self._missing_maps()
        if not wanted:
            return
        if not os.path.exists(path):
            raise UserError(
                f"{sum(map(len, wanted.values()))} improved depth maps are missing",
                path,
                f"fetch {kitti_drives.MAPS_ARCHIVE} (free registration) from {kitti_drives.MAPS_PAGE} "
                f"to this place, then run the command again",
            )
        listed, targets = archives.members(path), {}
        for folder, frames in wanted.items():
            for frame in sorted(frames):
                names = [f"{part}/{folder.rpartition('/')[2]}/{MAPS}/{frame:010d}.png" for part in ("train", "val")]
                targets.update(
                    {name: frame_path(self.data_path, folder, MAPS, frame, ".png") for name in names if name in listed}
                )
        archives.unpack(path, targets)
        self.say(f"unpacked {len(targets)} improved depth maps")

    def convert(self, drives):
        """Convert the wanted images that stand as PNG and not (or not whole) as JPEG."""
        pngs = waiting_pngs(self.data_path, drives, self.delete_png)
        if not pngs:
            return
        for folder in {os.path.dirname(png) for png in pngs}:
            sweep(folder)
        for jpeg in (f"{os.path.splitext(png)[0]}.jpg" for png in pngs):
            if os.path.exists(jpeg) and fault(jpeg):
                os.unlink(jpeg)
        with Progress("convert", len(pngs), "images") as progress:
            convert_all(pngs, keep_png=not self.delete_png, workers=self.workers, each=progress.advance)
        self.say(f"converted {len(pngs)} images" + (f" of {next(iter(drives))}" if len(drives) == 1 else ""))
