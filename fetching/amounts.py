"""Numbers of bytes as text."""


def size_text(count):
    """Return a number of bytes as people read it: 1.5 GB, 320.0 MB (powers of ten, as disks are sold)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
