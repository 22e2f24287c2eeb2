"""An evaluation under torchrun: images shared out among the processes, results in the order of the list.

Whole batches are dealt out in turn, so that each batch, and with it every number, is that of a single process.
"""

import contextlib
import errno
import os
import sys
import tempfile
from typing import NamedTuple

import numpy as np
import torch

from system import distributed, resources
from system.command_line import EXIT_USER_ERROR
from system.distributed import Processes
from system.errors import ADVICE, UserError, from_os_error

ALONE = Processes()


@contextlib.contextmanager
def joined(opt):
    """Yield the `Processes` that torchrun started, or this one alone; only the first says what is wrong.

    Args:
        opt: the options; with several processes on GPUs, `device` becomes this one's own.

    Raises:
        UserError: more processes than GPUs; another process is gone.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield ALONE
        return
    use_cuda = not opt.no_cuda and opt.device in (None, "cuda") and torch.cuda.is_available()
    processes = ALONE
    try:
        processes = distributed.start(use_cuda, "gloo")
        if use_cuda:
            opt.device = f"cuda:{processes.local_rank}"
        yield processes
    except UserError:
        if processes.is_first:
            raise
        sys.exit(EXIT_USER_ERROR)  # the first process has the same to say
    except RuntimeError as error:
        if not distributed.is_lost_peer(error):
            raise
        raise UserError("another process of this evaluation is gone", f"seen by process {processes.rank}",
                        "see its own message; start all of them again") from error  # fmt: skip
    finally:
        distributed.stop()


def agreed(processes, work):
    """Return work(); what goes wrong in one process is raised in all of them.

    Raises:
        UserError: of the first process in which one was raised, or of what its surroundings did to it.
    """
    if processes.count == 1:
        return work()
    result = problem = None
    try:
        result = work()
    except UserError as error:
        problem = error
    except OSError as error:
        if error.errno not in ADVICE or error.errno == errno.EPIPE:
            raise
        problem = from_os_error(error)
    except (MemoryError, RuntimeError) as error:
        problem = resources.cause(error, f"process {processes.rank}")
        if problem is None:
            raise
    for each in processes.gather(problem):
        if each is not None:
            raise each
    return result


class Share(NamedTuple):
    """Which of `total` images are this process's, in batches of `batch_size`."""

    processes: Processes
    total: int
    batch_size: int

    def batches(self):
        """Return [(rank, indices)] of all batches, in the order of the list."""
        starts = range(0, self.total, self.batch_size)
        return [(number % self.processes.count, range(start, min(start + self.batch_size, self.total)))
                for number, start in enumerate(starts)]  # fmt: skip

    def indices(self):
        """Return the places of this process's images in the list."""
        return [index for rank, indices in self.batches() if rank == self.processes.rank for index in indices]

    def merged(self, own):
        """Return the values of all images, of which `own` are this process's, in order; the same in every process."""
        of_all = [iter(values) for values in self.processes.gather(own)]
        return [next(of_all[rank]) for rank, indices in self.batches() for _ in indices]


class Kept:
    """Disparities of this process's images, kept in a file without a name until all are made."""

    def __init__(self):
        self._file, self._shape = tempfile.TemporaryFile(), None  # noqa: SIM115, closed with this object

    def on_the_way(self, disparities):
        """Yield the (H, W) `disparities`, each of which is kept as float32."""
        for disparity in disparities:
            self._shape = disparity.shape
            self._file.write(np.ascontiguousarray(disparity, "<f4").tobytes())
            yield disparity

    def of_all(self, share):
        """Yield the disparities of all images in order, in the first process; in the others nothing."""
        self._file.seek(0)
        for rank, indices in share.batches():
            batch = None
            if rank == share.processes.rank:
                shape = (len(indices), *self._shape)
                batch = np.frombuffer(self._file.read(4 * int(np.prod(shape))), "<f4").reshape(shape)
            batch = share.processes.from_rank(batch, rank)
            if share.processes.is_first:
                yield from batch
