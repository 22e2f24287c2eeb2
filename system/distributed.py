"""The processes of a run: one, or as many as torchrun started (NCCL between GPUs, gloo between CPUs)."""

import atexit
import contextlib
import datetime
import gc
import inspect
import logging
import os
import signal
import sys
import threading
import time
import warnings
from typing import NamedTuple

import torch
import torch.distributed as dist

from system.command_line import EXIT_USER_ERROR, STARTED_BY
from system.errors import UserError

TIMEOUT = datetime.timedelta(minutes=30)
_PEERS = ("connection closed by peer", "connection reset", "gloo", "nccl", "broken pipe", "socket timeout",
          "wait timeout")  # fmt: skip
ORPHAN_LOOKS, ORPHAN_PATIENCE = 2.0, 30.0  # seconds between looks for torchrun; from its end to this process's


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
        return self.from_rank(value, 0)

    def from_rank(self, value, rank):
        """Return the plain `value` of the process with that rank."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=rank)
        return box[0]

    def broadcast_buffers(self, module):
        """Give every process the first one's buffers (BatchNorm statistics)."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def parallel(self, network, device, static=False):
        """Return the network with gradients averaged over all processes; buffers stay each process's own.

        Args:
            network: a module; its gradients become views of the buffers that are sent.
            device: where it is.
            static: whether every step uses the same parameters in the same way, once between two averages.
        """
        if self.count == 1:
            return network
        wrap = torch.nn.parallel.DistributedDataParallel
        known = inspect.signature(wrap).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # older torch
        ids = [self.local_rank] if device.type == "cuda" else None
        return wrap(network, device_ids=ids, gradient_as_bucket_view=True, static_graph=static, **{buffers: False})

    def wait(self):
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()


def start(use_cuda, backend=None):
    """Join the processes that torchrun started, or stand alone. Call `stop` at the end.

    Args:
        use_cuda: each process takes a GPU of its own.
        backend: of the group; without, NCCL between GPUs and gloo between CPUs.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        return Processes()
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if use_cuda and local_rank >= torch.cuda.device_count():
        which = f"LOCAL_RANK {local_rank}, {torch.cuda.device_count()} GPUs"
        raise UserError("more processes than GPUs on this machine", which, "lower --nproc_per_node, or add --no_cuda")
    if use_cuda:
        torch.cuda.set_device(local_rank)
    if int(os.environ.get("RANK", 0)):  # one voice is enough; warnings come from everybody
        logging.getLogger().setLevel(logging.WARNING)
    # Depthwise weights, (C, 1, 3, 3), have several ways to write the strides of the same memory: a copy of some kB.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_follow_torchrun, daemon=True).start()
    if not dist.is_initialized():
        device = {"device_id": torch.device("cuda", local_rank)} if use_cuda and backend != "gloo" else {}
        # The group's threads end with the last thing that holds it, which must be before the interpreter does: a
        # thread that lets go of a tensor later aborts the process. These functions would keep the group that exists
        # when they are imported; what else holds it at the end is part of a circle.
        from torch.distributed.nn import functional  # noqa: F401

        atexit.register(gc.collect)
        with _killable():
            dist.init_process_group(backend or ("nccl" if use_cuda else "gloo"), timeout=TIMEOUT, **device)
    return Processes(dist.get_rank(), local_rank, count)


def _follow_torchrun():
    """End this process when torchrun is gone: first as if it had been asked to, then whatever it is waiting for."""
    while os.getppid() == STARTED_BY:
        time.sleep(ORPHAN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_PATIENCE)
    print("error: torchrun is gone; this process waited for it; start all of them again with --resume",
          file=sys.stderr, flush=True)  # fmt: skip
    os._exit(EXIT_USER_ERROR)


@contextlib.contextmanager
def _killable():
    """Let SIGTERM and SIGHUP kill this process while it waits inside the library, where no handler of ours can run."""
    before = {}
    for signum in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):  # only the main thread may listen
            if callable(signal.getsignal(signum)):
                before[signum] = signal.signal(signum, signal.SIG_DFL)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def stop():
    """Leave the group of processes, if there is one."""
    if dist.is_available() and dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # the others may be gone already
            dist.destroy_process_group()


def is_lost_peer(error):
    """Whether a RuntimeError says that another process of the group went away."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in _PEERS)
