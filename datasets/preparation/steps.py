"""The steps from archives on a server to a KITTI folder that training and evaluation read.

Each step looks at what is on the disk, does what is left to do, and leaves only whole files; so any of them can be
broken off anywhere, repeated, and run alone. Drives go through download, unpack and convert one after another while
the next archives are already on their way, which keeps the disk space at work small.
"""

import contextlib
import enum
import os

from datasets.preparation import kitti_drives
from datasets.preparation.convert import convert_waiting, waiting_pngs
from datasets.preparation.plan import ask_sizes, check_space
from datasets.preparation.unpack import drop_spent_archives, unpack, unpack_maps
from datasets.preparation.verification import verify
from fetching.downloads import Wanted, arriving
from system.errors import UserError
from system.files import sweep
from system.locks import only_one


class Step(enum.Enum):
    """What can be done, in this order."""

    DOWNLOAD = "download"
    UNPACK = "unpack"
    CONVERT = "convert"
    GROUND_TRUTH = "ground_truth"
    VERIFY = "verify"


def prepare(work, steps, ground_truth):
    """Run steps for a KITTI folder.

    Args:
        work: `plan.Work`.
        steps: of `Step`, in any order.
        ground_truth: function without arguments that builds the ground truth.
    Raises:
        UserError: what went wrong, at the end when the rest could go on.
    """
    if not nothing_to_bring(work, steps):
        with only_one(os.path.join(work.folder, ".lock"), "preparing this KITTI folder"):
            bring(work, steps)
    work.problems.raise_if_hopeless()
    if Step.GROUND_TRUTH in steps:
        ground_truth()
    if Step.VERIFY in steps:
        with work.problems.collected():
            verify(work.data_path, work.drives, work.png)
    work.problems.raise_if_any()


def bring(work, steps):
    """Download, unpack and convert, as far as these steps are asked for."""
    sweep(work.folder)
    sizes = ask_sizes(work) if Step.DOWNLOAD in steps else {}
    if work.jobs() and steps & {Step.DOWNLOAD, Step.UNPACK}:
        check_space(work, sizes, Step.UNPACK in steps, Step.CONVERT in steps)
    with contextlib.closing(archives_here(work, sizes, steps)) as here:
        for archive, owner in here:
            with work.problems.collected():
                if Step.UNPACK in steps:
                    unpack(work, archive, owner)
                if Step.CONVERT in steps and isinstance(owner, kitti_drives.Drive):
                    convert_waiting(work, {owner.folder: owner})
    with work.problems.collected():
        if Step.UNPACK in steps:
            unpack_maps(work)
    with work.problems.collected():
        if Step.CONVERT in steps:
            convert_waiting(work, work.drives)
    if Step.UNPACK in steps and work.delete_archives:
        drop_spent_archives(work)


def archives_here(work, sizes, steps):
    """Yield (Archive, its owner) of the archives to be unpacked: those that are here, then the others as they arrive.

    Args:
        sizes: {Archive: bytes or 0} of those to be downloaded.
    """
    if not steps & {Step.DOWNLOAD, Step.UNPACK}:
        return
    jobs = work.jobs()
    ready = [archive for archive in jobs if work.here(archive)]
    if Step.DOWNLOAD not in steps and len(ready) < len(jobs):
        lacking = next(work.path(archive) for archive in jobs if archive not in ready)
        fix = "run the download step, or put them there by hand"
        work.problems.errors.append(UserError(f"{len(jobs) - len(ready)} archives are not here", lacking, fix))
    yield from ((archive, jobs[archive]) for archive in ready)
    wanted = {Wanted(work.url(each), work.path(each), size or None): each for each, size in sizes.items()}
    brought = arriving(list(wanted), work.parallel, work.problems, retries=work.retries)
    with contextlib.closing(brought):
        for file in brought:
            yield wanted[file], jobs[wanted[file]]


def nothing_to_bring(work, steps):
    """Whether nothing is left to download, unpack or convert; nothing is written then, so no lock is needed."""
    if steps & {Step.DOWNLOAD, Step.UNPACK} and work.jobs():
        return False
    if Step.UNPACK in steps and (work.delete_archives and os.path.isdir(work.folder) or work.missing_maps()):
        return False
    return not (Step.CONVERT in steps and waiting_pngs(work.data_path, work.drives, work.delete_png))
