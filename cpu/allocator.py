"""The C library's memory allocator, told to keep what is freed for the next step instead of handing it back.

Maps of a few MB are made and freed thousands of times a second. Where glibc returns such memory to the system, the
system clears every page again before the next use, which can take longer than the arithmetic.
"""

import ctypes
import platform

from cpu import is_wanted

# Parameters of mallopt(3): how much free memory may stay at the heap's end, from which size on an allocation is a
# mapping of its own (the largest value there is), and how many heaps threads are spread over.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_SETTINGS = ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_THRESHOLD, 32 * 2**20), (_ARENA_MAX, 1))


def keep_freed_memory():
    """Keep freed memory for the whole process; return whether the C library was told (it has to be glibc on Linux)."""
    if not is_wanted("allocator") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(parameter, value) == 1 for parameter, value in _SETTINGS)
