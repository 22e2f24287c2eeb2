"""How much memory a process may have, as the system and its container tell, and the refusal of what can never fit."""

import os

from system.errors import UserError

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of containers: v2, v1
ALWAYS_FITS = 2**28  # bytes


def free():
    """Return the bytes that can be had without swapping, or None where the system does not tell."""
    return _meminfo().get("MemAvailable")


def total():
    """Return the bytes that this machine or its container can give at all, swap included; None if it does not tell."""
    told = _meminfo()
    if "MemTotal" not in told:
        return None
    limits = [limit for limit in map(_number_in, _LIMITS) if limit]
    return min([told["MemTotal"], *limits]) + told.get("SwapTotal", 0)


def refuse_beyond(needed, what, fix):
    """Refuse work that takes at least `needed` bytes where this machine cannot give them.

    Without it the kernel ends the process after some minutes, and nobody says why.

    Raises:
        UserError: they are more than `total()`; `what` is what needs them.
    """
    if needed < ALWAYS_FITS:  # every prediction comes by
        return
    most = total()
    if most is not None and needed > most:
        which = f"{what}: at least {needed / 1e9:.0f} GB, this machine has {most / 1e9:.0f} GB"
        raise UserError("it does not fit into the memory", which, fix)


def _meminfo():
    try:
        with open("/proc/meminfo") as file:
            pairs = [line.split(":", 1) for line in file]
        return {name: int(value.split()[0]) * 1024 for name, value in pairs}
    except (OSError, ValueError, IndexError):
        return {}


def _number_in(path):
    """Return the number that a file of the system holds, None where there is none."""
    try:
        if not os.path.exists(path):
            return None
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):  # "max": no limit
        return None
