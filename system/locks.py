"""Locks between processes: a killed process frees what it held."""

import contextlib
import os
import sys

from system.errors import UserError, from_os_error


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
