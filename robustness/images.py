"""Corrupted images, made by processes side by side a few ahead of the consumer, or read back from a cache."""

import collections
import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import signal
import threading
import time
from typing import NamedTuple

import numpy as np

from datasets.images import planes, read_pixels
from robustness import HEIGHT, WIDTH
from robustness.corruptions import corrupt, image_seed
from system import files
from system.errors import UserError

AHEAD = 8  # images a worker that may wait for the consumer
CHECK_PARENT = 2.0  # seconds


class Job(NamedTuple):
    """One image to make: source file, corruption (None: clean) and severity, index in the list, where it is kept."""

    source: str
    name: str
    severity: int
    index: int
    seed: int
    kept: str = ""


def make(job):
    """Return a job's image, (HEIGHT, WIDTH, 3) uint8; a kept one is read, a new one is kept where the job says.

    Raises:
        UserError: the source or the kept image is missing or damaged.
    """
    if job.kept and os.path.isfile(job.kept):
        image = read_pixels(job.kept, f"the cache of {job.source}")
        if image.shape != (HEIGHT, WIDTH, 3):
            raise UserError("a cached image of another size", job.kept, "remove the cache's folder")
        return image
    wanted_by = f"image {job.index + 1} of the split"
    image = planes(read_pixels(job.source, wanted_by), HEIGHT, WIDTH).transpose(1, 2, 0).astype(np.uint8)
    if job.name:
        seed = image_seed(job.seed, job.name, job.severity, job.index)
        image = corrupt(np.ascontiguousarray(image), job.name, job.severity, seed)
    if job.kept:
        from PIL import Image

        files.write_image(job.kept, Image.fromarray(image), compress_level=1)
    return image


def make_all(jobs, workers):
    """Yield `make` of every job, in order.

    Args:
        jobs: iterable of `Job`s.
        workers: processes; 0 makes them here.

    Raises:
        UserError: as `make`; or a worker was killed.
    """
    if not workers:
        yield from map(make, jobs)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _begin_worker, (os.getpid(),))
    waiting = collections.deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(make, job))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        fix = "give fewer (memory?); what is finished is kept"
        raise UserError("a worker process was killed", f"--num_workers {workers}", fix) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(parent):
    """Leave interrupts to the parent, compute with one thread, and end when the parent has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)

    def watch():
        while os.getppid() == parent:
            time.sleep(CHECK_PARENT)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
