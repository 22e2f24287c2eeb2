"""The processes of a run: one, or as many as torchrun started (NCCL between GPUs, gloo between CPUs)."""

import contextlib
import datetime
import logging
import os
from typing import NamedTuple

import torch
import torch.distributed as dist

TIMEOUT = datetime.timedelta(minutes=30)


class Processes(NamedTuple):
    """This process's place: its rank among `count`, and its rank on its own machine."""

    rank: int = 0
    local_rank: int = 0
    count: int = 1

    @property
    def is_first(self):
        return self.rank == 0

    def any(self, flag):
        """Whether `flag` is true on any process."""
        if self.count == 1:
            return bool(flag)
        return any(self.gather(bool(flag)))

    def gather(self, value):
        """Return the plain `value` of every process, in the order of ranks."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value):
        """Return the first process's plain `value`."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_buffers(self, module):
        """Give every process the first one's buffers (BatchNorm statistics)."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self):
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()


def start(use_cuda):
    """Join the processes that torchrun started, or stand alone. Call `stop` at the end."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        return Processes()
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if use_cuda:
        torch.cuda.set_device(local_rank)
    if int(os.environ.get("RANK", 0)):  # one voice is enough; warnings come from everybody
        logging.getLogger().setLevel(logging.WARNING)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if use_cuda else "gloo", timeout=TIMEOUT)
    return Processes(dist.get_rank(), local_rank, count)


def stop():
    """Leave the group of processes, if there is one."""
    if dist.is_available() and dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # the others may be gone already
            dist.destroy_process_group()
