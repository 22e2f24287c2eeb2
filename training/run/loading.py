"""Batches in a repeatable order: shuffled by seed and epoch, shared between processes, resumable inside an epoch."""

import contextlib
import errno
import logging
import multiprocessing.queues
import os
import signal
import sys
import time
import warnings
import weakref

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from system.errors import UserError

log = logging.getLogger(__name__)


class EpochOrder:
    """A batch sampler whose batches depend on seed, epoch and process alone.

    It yields lists of (epoch, index), which the data set takes as indices, so that workers that live through the run
    know the epoch. Every process gets the same number of full batches; what is left over rests for an epoch.

    Args:
        length: items of the data set.
        batch_size: per process.
        seed: of the shuffling.
        processes: `Processes`.
    """

    def __init__(self, length, batch_size, seed, processes):
        self.length, self.batch_size, self.seed, self.processes = length, batch_size, seed, processes
        self.epoch, self.start = 0, 0

    def begin(self, epoch, start=0):
        """Choose the epoch, and the batch inside it to go on from."""
        self.epoch, self.start = epoch, start

    def __len__(self):
        return self.length // (self.batch_size * self.processes.count)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator).tolist()
        mine = order[self.processes.rank :: self.processes.count]
        for batch in range(self.start, len(self)):
            indices = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, index) for index in indices]


class BadSample:
    """Stands for an item that could not be read; carries the three parts of a `UserError`."""

    def __init__(self, problem):
        self.problem = (problem.what, problem.which, problem.fix)


class Guarded(Dataset):
    """A data set whose broken items come as `BadSample`, since worker processes would garble exceptions."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        try:
            return {**self.dataset[index], "index": index[1] if isinstance(index, tuple) else index}
        except UserError as problem:
            return BadSample(problem)
        except MemoryError:
            raise
        except Exception as error:  # whatever a decoder or a transform makes of odd content
            said = f"item {index}: {type(error).__name__}: {error}"
            return BadSample(UserError("a sample that cannot be prepared", said, "look at its images"))


def collate(items):
    """Stack the good items of a batch; bad ones go under "bad". A batch without a good item holds nothing else."""
    good = [item for item in items if not isinstance(item, BadSample)]
    batch = default_collate(good) if good else {}
    batch["bad"] = [item.problem for item in items if isinstance(item, BadSample)]
    return batch


class BadSamples:
    """What to do about them: stop at the first, or skip and count; `advice`: what to do where all are bad."""

    def __init__(self, policy, advice="check the data with --check_data"):
        self.policy, self.advice, self.count = policy, advice, 0

    def without_bad(self, batch):
        """Take "bad" out of a batch and deal with it.

        Raises:
            UserError: the policy is to stop, or no item of the batch is left.
        """
        for problem in batch.pop("bad", ()):
            self.count += 1
            if self.policy == "stop":
                raise UserError(problem[0], problem[1], f"{problem[2]}; or --on_bad_sample skip")
            log.warning("skipped a bad sample (%d so far): %s", self.count, "; ".join(map(str, problem)))
        if not batch:
            raise UserError("no sample of a whole batch can be read", f"{self.count} bad samples so far",
                            self.advice)  # fmt: skip
        return batch


_loaders = weakref.WeakSet()  # those whose processes `ending_workers` ends


def make_loader(dataset, workers, device, batch_sampler=None, batch_size=None):
    """Return a DataLoader of guarded items: batches of `batch_sampler`, or of `batch_size` in order.

    Use it inside `ending_workers`: its processes do not end by themselves when training fails.
    """
    how = {"batch_sampler": batch_sampler} if batch_sampler is not None else {"batch_size": batch_size}
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # as many as were asked for
    loader = DataLoader(
        Guarded(dataset),
        generator=torch.Generator().manual_seed(0),  # else each iterator would draw from training's own generator
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_quiet_worker,
        **how,
    )
    _loaders.add(loader)
    return loader


def _quiet_worker(_):
    """A worker decodes with one thread and leaves interruption to the main process.

    Clusters send SIGTERM to every process of a job; a worker that died of it would take the run down before its
    state is saved. Workers end by themselves when the main process is gone.
    """
    torch.set_num_threads(1)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    for signum in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE):  # torch would print a line of its own for these
        signal.signal(signum, signal.SIG_DFL)
    # The threads that hand batches over would print a call stack, drop the batch, and let training wait for ever.
    sys.excepthook = lambda kind, error, trace: _give_up(error)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(lambda error, batch: _give_up(error))


def _give_up(error):
    """End this process; its exit code is the error number of the cause, which `failures.outside_cause` reads."""
    number = getattr(error, "errno", None)
    if number is None:
        said = str(error).lower()
        numbers = {"too many open files": errno.EMFILE, "no space left": errno.ENOSPC, "memory": errno.ENOMEM}
        number = next((each for text, each in numbers.items() if text in said), 1)
    os._exit(number)


@contextlib.contextmanager
def ending_workers():
    """Kill, on the way out, every process that was started inside: none of them owns anything that could be lost.

    They ignore SIGTERM, so the interpreter's exit would wait for them for ever; and one that reads from a dead network
    file system would not answer any polite request.
    """
    before, loaders = set(multiprocessing.active_children()), set(_loaders)
    try:
        yield
    finally:
        with _deaf_to_their_end():
            started = [each for each in multiprocessing.active_children() if each not in before]
            for process in started:
                process.kill()
            for process in started:
                process.join(5)
            for loader in list(_loaders - loaders):
                _close(loader)


def _close(loader):
    """Close a loader's queues now, while their threads live: in a circle of garbage both would close the same file."""
    iterator, loader._iterator = loader._iterator, None
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()


@contextlib.contextmanager
def _deaf_to_their_end():
    """torch raises an error in the main thread when a loader's process dies of a signal; here it is meant to."""
    try:
        listener = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, listener)


def grouped(loader, size, bad_samples):
    """Yield (batches of one optimiser step, seconds waited for them), leaving out an incomplete last group."""
    group, began = [], time.monotonic()
    for batch in loader:
        group.append(bad_samples.without_bad(batch))
        if len(group) == size:
            yield group, time.monotonic() - began
            group, began = [], time.monotonic()
