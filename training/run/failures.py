"""How a run fails: what its surroundings did to it, and numbers that are not finite, as one line each."""

import contextlib

import torch

from system.errors import UserError, from_os_error
from system.files import write_json


@contextlib.contextmanager
def own_folder(run, processes, where):
    """Hold the run's folder, and put what the surroundings do to it into one line.

    Args:
        run: `run_folder.RunFolder`.
        processes: `processes.Processes`.
        where: function that says where the run is, such as "rank 0 at step 12".

    Raises:
        UserError: the folder is taken, disk or memory do not play along, or another process is gone.
    """
    if processes.is_first:
        run.lock()
    try:
        yield
    except RuntimeError as error:
        problem = outside_cause(error, where(), processes.count)
        if problem is None:
            raise
        raise problem from error
    except OSError as error:
        raise from_os_error(error, run.path) from error
    finally:
        run.unlock()


def outside_cause(error, where, processes):
    """Return the `UserError` behind a RuntimeError that a run's surroundings caused, or None; `processes`: how many."""
    if isinstance(error, torch.OutOfMemoryError):
        return UserError(
            "the GPU's memory is full", where, "lower --batch_size and accumulate more batches, or --amp bf16"
        )
    if "DataLoader worker" in str(error):
        return UserError("a process that loads data has died", f"{where}: {error}",
                         "memory may be short: lower --num_workers, and continue with --resume")  # fmt: skip
    if processes > 1 and is_lost_peer(error):
        return UserError("another process of this run is gone", where,
                         "see its own message; start all of them again with --resume")  # fmt: skip
    return None


def is_lost_peer(error):
    """Whether a RuntimeError says that another process of the group went away."""
    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    return any(
        word in text for word in ("connection closed by peer", "connection reset", "gloo", "nccl", "broken pipe")
    )


def stop_unless_finite(what, value, path, report):
    """Raise UserError unless a number is finite, after writing what `report` returns (with a "step") to `path`."""
    if value - value == 0:
        return
    entries = {"what": what, "value": str(value), **report()}
    write_json(path, entries)
    raise UserError(f"the {what} is not finite", f"step {entries['step']}: {value}",
                    f"see {path}; lower --lr, or --amp off, and continue with --resume")  # fmt: skip
