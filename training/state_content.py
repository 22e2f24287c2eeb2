"""What a resumable state has to hold: each entry is looked at before a run goes on from it.

A right checksum does not make a right state.
"""

import math

from system.errors import UserError
from training.run.randomness import restore_random_states

ENTRIES = ("identity", "progress", "best", "networks", "optimisation", "bad_samples", "random")


def check_content(state, path):
    """Raise UserError unless a state has the entries of a training run, each of its kind.

    Args:
        state: what `states.read` returned.
        path: of its file.
    """
    if not isinstance(state, dict):
        raise wrong(path, "no named entries")
    lacking = [name for name in ENTRIES if name not in state]
    if lacking:
        raise wrong(path, f"no {lacking[0]}")
    for name in ("identity", "best", "networks", "optimisation"):
        if not isinstance(state[name], dict) or not all(isinstance(key, str) for key in state[name]):
            raise wrong(path, f"{name} has no named entries")
    if not is_count(state["bad_samples"]):
        raise wrong(path, f"{state['bad_samples']} bad samples")
    if not isinstance(state["random"], list) or not all(isinstance(each, dict) for each in state["random"]):
        raise wrong(path, "no random states")
    if not is_best(state["best"]):
        raise wrong(path, f"best {state['best']}")


def check_progress(progress, steps_per_epoch, num_epochs, path, flag="--num_epochs"):
    """Raise UserError unless progress is [epoch, step in it, step] of a run that this one can continue.

    Args:
        progress: from a state.
        steps_per_epoch, num_epochs: of this run.
        path: of the state's file.
        flag: the option that says how many epochs there are.
    """
    if not isinstance(progress, list | tuple) or len(progress) != 3 or not all(is_count(each) for each in progress):
        raise wrong(path, f"progress {progress}")
    epoch, step_in_epoch, step = progress
    if step_in_epoch >= steps_per_epoch or step != epoch * steps_per_epoch + step_in_epoch:
        raise wrong(path, f"progress {list(progress)} with {steps_per_epoch} steps an epoch")
    if epoch > num_epochs:
        raise UserError("the state is beyond the end of the run", f"{path}: epoch {epoch} of {num_epochs}",
                        f"pass {flag} {epoch} or more")  # fmt: skip


def restore_random(states, rank, device, path):
    """Put back the random generators of a process, and turn what they refuse into a UserError; `states`: of all."""
    try:
        restore_random_states(states[rank], device)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise wrong(path, f"random states of rank {rank}: {error}") from error


def is_best(best):
    """Return whether `best` can be what validation has chosen so far: metric, value and epoch, or nothing yet."""
    if not isinstance(best, dict):
        return False
    metric, value, epoch = (best.get(name) for name in ("metric", "value", "epoch"))
    if metric is None and value is None and epoch is None:
        return True
    return isinstance(metric, str) and type(value) in (int, float) and math.isfinite(value) and is_count(epoch)


def is_count(value):
    """Whether a value can be a number of steps, epochs or samples."""
    return type(value) is int and 0 <= value < 2**53


def wrong(path, what):
    """Return the error for a state's content that does not make sense; `what`: the entry."""
    return UserError("the state holds what no run of this program writes", f"{path}: {what}",
                     "resume from another state, or start a new run")  # fmt: skip
