"""The cache folder of fetched weights, and locks between processes."""

import contextlib
import os
import sys

from errors import UserError, from_os_error

VARIABLE = "LITE_MONO_CACHE"


def cache_folder():
    """Return the cache folder: $LITE_MONO_CACHE, else lite-mono in $XDG_CACHE_HOME, else in ~/.cache. Not created."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG rules: a relative path is to be ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "lite-mono")


@contextlib.contextmanager
def only_one(lock_path, waiting_for, timeout=-1):
    """Hold the lock file `lock_path`: other processes with the same one wait, a killed process frees it.

    Args:
        waiting_for: what the other process is doing, for the line that is printed before waiting.
        timeout: seconds to wait; -1 for as long as it takes.
    Raises:
        UserError: the folder cannot be written to, or `timeout` has passed.
    """
    from filelock import FileLock, Timeout  # here, since it brings much that --help does not need

    try:
        os.makedirs(os.path.dirname(lock_path), exist_ok=True)
        lock = FileLock(lock_path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is {waiting_for}; waiting for it", file=sys.stderr, flush=True)
            lock.acquire(timeout=timeout)
    except Timeout:
        raise UserError(f"another process is still {waiting_for}", lock_path, "run this again later") from None
    except OSError as error:
        raise from_os_error(error, lock_path) from error
    try:
        yield
    finally:
        lock.release()
