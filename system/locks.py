"""Locks between processes on a file, by fcntl's record locks: one technique for downloads, runs and caches.

The system frees such a lock when its process ends, however it ends, and processes that it has forked (a loader's
workers, say) do not inherit it. Within a process a path can be held once as well. Where there is no fcntl (Windows)
only the latter holds.
"""

import contextlib
import functools
import os
import sys
import threading
import time

from system.errors import UserError, from_os_error

try:
    import fcntl
except ImportError:
    fcntl = None

POLL = 0.05  # seconds between two attempts while waiting
_held, _guard = {}, threading.Lock()  # {path: open file} that this process holds


class Lock:
    """A lock on the file `path`, made where it is missing and left there."""

    def __init__(self, path):
        self.path = os.path.realpath(path)
        self._ours = False

    def acquire(self):
        """Take the lock if it is free; return whether it is ours now.

        Raises:
            UserError: the file cannot be written.
        """
        with _guard:
            if self.path in _held:  # also because closing a second handle would free the first one's record lock
                return False
            try:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                file = open(self.path, "a")  # noqa: SIM115 (held until `release`)
            except OSError as error:
                raise from_os_error(error, self.path) from error
            try:
                if fcntl:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # what POSIX allows for "somebody else holds it"
                file.close()
                return False
            except OSError as error:  # a file system without locks
                file.close()
                raise from_os_error(error, self.path) from error
            _held[self.path], self._ours = file, True
            return True

    @property
    def is_ours(self):
        """Whether this object holds the lock."""
        return self._ours

    def release(self):
        """Let go of the lock; nothing happens where it is not held."""
        with _guard:
            if self._ours:
                _held.pop(self.path).close()
                self._ours = False


@contextlib.contextmanager
def only_one(lock_path, waiting_for, timeout=-1, tell=None):
    """Hold the lock file `lock_path`: other processes with the same one wait, a killed process frees it.

    Args:
        waiting_for: what the other process is doing, for the line that is printed before waiting.
        timeout: seconds to wait; -1 for as long as it takes.
        tell: takes that line instead of stderr.
    Raises:
        UserError: the folder cannot be written to, or `timeout` has passed.
    """
    tell = tell or functools.partial(print, file=sys.stderr, flush=True)
    lock, told, began = Lock(lock_path), False, time.monotonic()
    while not lock.acquire():
        if not told:
            tell(f"another process is {waiting_for}; waiting for it")
            told = True
        if 0 <= timeout <= time.monotonic() - began:
            raise UserError(f"another process is still {waiting_for}", lock_path, "run this again later")
        time.sleep(POLL)
    try:
        yield
    finally:
        lock.release()
