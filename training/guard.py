"""What guards a run, whatever it trains: its folder, its peers, its identity and its numbers."""

import contextlib
import time

import torch

from errors import UserError, from_os_error
from files import write_json


@contextlib.contextmanager
def own_folder(run, processes):
    """Hold the run's folder, and turn another process's death into one line.

    Args:
        run: `run_folder.RunFolder`.
        processes: `processes.Processes`.

    Raises:
        UserError: the folder is taken, the disk does not play along, or another process is gone.
    """
    if processes.is_first:
        run.lock()
    try:
        yield
    except RuntimeError as error:
        if processes.count == 1 or not is_lost_peer(error):
            raise
        raise UserError("another process of this run is gone", f"rank {processes.rank}",
                        "see its own message; start all of them again with --resume") from error  # fmt: skip
    except OSError as error:
        raise from_os_error(error, run.path) from error
    finally:
        run.unlock()


def is_lost_peer(error):
    """Whether a RuntimeError says that another process of the group went away."""
    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in ("connection closed by peer", "connection reset", "gloo", "nccl", "broken pipe"))


def check_identity(mine, stored):
    """Compare what has to be equal in the run that resumes, two dicts of plain values.

    Raises:
        UserError: the first entry that differs.
    """
    for name, value in mine.items():
        if stored.get(name) != value:
            raise UserError(f"the run cannot go on with another {name}", f"{value}, was {stored.get(name)}",
                            "use the same options, data and number of processes, or start a new run")  # fmt: skip


def grouped(loader, size, bad_samples):
    """Yield (batches of one optimiser step, seconds waited for them), leaving out an incomplete last group."""
    group, began = [], time.monotonic()
    for batch in loader:
        group.append(bad_samples.sift(batch))
        if len(group) == size:
            yield group, time.monotonic() - began
            group, began = [], time.monotonic()


def stop_unless_finite(what, value, path, report):
    """Raise UserError unless a number is finite, after writing `report` (plain values, or what makes them) to `path`."""
    if value - value == 0:
        return
    report = report() if callable(report) else report
    write_json(path, {"what": what, "value": str(value), **report})
    raise UserError(f"the {what} is not finite", f"step {report['step']}: {value}",
                    f"see {path}; lower --lr, or --amp off, and continue with --resume")  # fmt: skip
