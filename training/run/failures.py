"""What its surroundings do to a run (disk, memory, loaders, other processes), as one line each."""

import contextlib
import errno
import os

from system import resources
from system.distributed import is_lost_peer
from system.errors import UserError, from_os_error
from training.run.loading import ending_workers

_SHARED_MEMORY = ("bus error", "shared memory", "/torch_", "shm")

# What a batch that its process hands over ends in when the process is gone.
_LOADER_IS_GONE = (errno.ENOENT, errno.ECONNRESET, errno.ECONNREFUSED)


@contextlib.contextmanager
def one_line(where=lambda: "at the start"):
    """Put what the surroundings do to a run into one line, and let no process of its loaders outlive it.

    Args:
        where: function that says where the run is, such as "rank 0 at step 12".

    Raises:
        UserError: disk or memory do not play along, a loader's process died, or another process of the run is gone.
    """
    try:
        with ending_workers():
            yield
    except (RuntimeError, MemoryError) as error:
        problem = outside_cause(error, where(), int(os.environ.get("WORLD_SIZE", 1)))
        if problem is None:
            raise
        raise problem from error
    except BrokenPipeError:
        raise  # of the output; see `system.command_line`
    except (OSError, EOFError) as error:
        if isinstance(error, EOFError) or error.filename is None and error.errno in _LOADER_IS_GONE:
            raise _loader_died(where(), error) from error
        if error.errno == errno.ENOSPC and error.filename is None:  # a worker's; our files name theirs
            raise _shared_memory_is_full(where()) from error
        raise from_os_error(error, None if error.filename else where()) from error


@contextlib.contextmanager
def holding_folder(run, processes, where):
    """Hold the run's folder, and fail as `one_line`.

    Args:
        run: `folder.RunFolder`.
        processes: `distributed.Processes`.
        where: as `one_line`.

    Raises:
        UserError: the folder is taken, or as `one_line`.
    """
    with one_line(where):
        if processes.is_first:
            run.lock()
        try:
            yield
        finally:
            run.unlock()


def outside_cause(error, where, processes):
    """Return the `UserError` behind an error that a run's surroundings caused, or None; `processes`: how many."""
    text = str(error).strip()
    said = text.splitlines()[-1].strip() if text else type(error).__name__
    lower = text.lower()
    if "too many open files" in lower or "ancdata" in lower or f"exit code {errno.EMFILE}." in lower:
        return UserError("too many open files", where, "raise the limit (ulimit -n) or lower --num_workers")
    words = (*_SHARED_MEMORY, f"exit code {errno.ENOSPC}.")
    if "dataloader worker" in lower and any(word in lower for word in words) or "/torch_" in lower:
        return _shared_memory_is_full(where)
    if "dataloader worker" in lower:
        return _loader_died(where, said)
    problem = resources.cause(error, where, trains=True)
    if problem is not None:
        return problem
    if processes > 1 and is_lost_peer(error):
        return UserError("another process of this run is gone", where,
                         "see its own message; start all of them again with --resume")  # fmt: skip
    return None


def _shared_memory_is_full(where):
    fix = "enlarge /dev/shm (docker run --shm-size=8g) or lower --num_workers, and continue with --resume"
    return UserError("the shared memory of the processes that load data is full", f"{where}: /dev/shm", fix)


def _loader_died(where, said):
    fix = "memory or file handles (ulimit -n) may be short: lower --num_workers, and continue with --resume"
    said = said or "it ended in the middle of a batch"
    return UserError("a process that loads data has died", f"{where}: {said}", fix)
