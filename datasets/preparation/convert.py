"""PNG to the published JPEG form: what `convert -quality 92 -sampling-factor 2x2,1x1,1x1` writes, on all cores.

Quantisation tables, subsampling and pixels are those of ImageMagick; the results of the paper belong to such images.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading

from PIL import Image

from datasets.preparation.verification import fault
from kitti_utils import CAMERAS
from system.errors import UserError
from system.files import sweep, write_image
from system.parallel import available_cores
from system.progress import Progress

JPEG_OPTIONS = {"quality": 92, "subsampling": "4:2:0", "optimize": True}  # ImageMagick optimises Huffman tables
WORTH_PROCESSES = 64  # images; fewer are done before the processes have started


def png_to_jpeg(png, keep_png=False):
    """Write the JPEG beside a PNG file, then remove the PNG unless it is to stay. Returns the JPEG's path.

    A JPEG that is already there is taken as it is. The PNG goes only after the JPEG stands.

    Raises:
        UserError: the PNG is damaged, or the JPEG cannot be written.
    """
    jpeg = os.path.splitext(png)[0] + ".jpg"
    if not os.path.exists(jpeg):
        try:
            with Image.open(png) as opened:
                image = opened.convert("L" if opened.mode in ("1", "L", "LA") else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError("the PNG cannot be read", png, "delete it and run the unpack step again") from error
        write_image(jpeg, image, **JPEG_OPTIONS)
    if not keep_png:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(png)
    return jpeg


def waiting_pngs(data_path, drives, also_converted=False):
    """Return the wanted images of {folder: Drive} that stand as PNG without a whole JPEG beside them.

    Args:
        also_converted: name those with a JPEG too (they have only to go).
    """
    pngs = []
    for drive in drives.values():
        for subfolder, frames in drive.wanted(data_path).items():
            directory = os.path.join(data_path, drive.folder, *subfolder.split("/"))
            if subfolder not in CAMERAS.values() or not os.path.isdir(directory):
                continue
            names = set(os.listdir(directory))
            for stem in (f"{frame:010d}" for frame in sorted(frames)):
                if f"{stem}.png" not in names:
                    continue
                whole = f"{stem}.jpg" in names and not fault(os.path.join(directory, f"{stem}.jpg"))
                if also_converted or not whole:
                    pngs.append(os.path.join(directory, f"{stem}.png"))
    return pngs


def convert_waiting(work, drives, say=print):
    """Convert the wanted images of {folder: Drive} that stand as PNG and not (or not whole) as JPEG."""
    pngs = waiting_pngs(work.data_path, drives, work.delete_png)
    if not pngs:
        return
    for folder in {os.path.dirname(png) for png in pngs}:
        sweep(folder)
    for jpeg in (f"{os.path.splitext(png)[0]}.jpg" for png in pngs):
        if os.path.exists(jpeg) and fault(jpeg):
            os.unlink(jpeg)
    with Progress("convert", len(pngs), "images") as progress:
        convert_all(pngs, keep_png=not work.delete_png, workers=work.workers, each=progress.advance)
    say(f"converted {len(pngs)} images" + (f" of {next(iter(drives))}" if len(drives) == 1 else ""))


def convert_all(pngs, keep_png=False, workers=None, each=None):
    """Convert many PNG files in parallel.

    Args:
        workers: processes; None for one per core. Few files are done right here, without any process.
        each: called after each file.
    Raises:
        UserError: of the first file that failed, after the others were finished.
    """
    workers = workers or available_cores()
    each = each or (lambda: None)
    if workers == 1 or len(pngs) < WORTH_PROCESSES:
        results = (_convert((png, keep_png)) for png in pngs)
        return _collect(results, each)
    # spawn: the caller may run threads (downloads), which a forked process would inherit half-way
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_leave_with_parent) as pool:
        try:
            return _collect(pool.map(_convert, [(png, keep_png) for png in pngs], chunksize=4), each)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _convert(job):
    """Convert one file in a worker; a user's problem comes back as a value, since the rest should go on."""
    try:
        png_to_jpeg(*job)
    except UserError as error:
        return error.args
    return None


def _collect(results, each):
    problems = []
    for problem in results:
        each()
        if problem:
            problems.append(problem)
    if problems:
        what, which, fix = problems[0]
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(what, which + more, fix)


def _leave_with_parent():
    """In a worker: end when the parent is gone, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
