"""A run from beginning to end, as a command sees it: its exit code, one line when it fails, no process left."""

from system import distributed
from training.run.failures import one_line
from training.run.interruption import Interrupted


def run(make, work):
    """Make a trainer and let it work; return the command's exit code: 0, or that of the signal that stopped it.

    Args:
        make: function that returns the trainer. work: function that is given it.

    Raises:
        UserError: as `failures.one_line`.
    """
    try:
        with one_line():
            work(make())
    except Interrupted as stop:
        print(stop)
        return stop.exit_code
    finally:
        distributed.stop()
    return 0
