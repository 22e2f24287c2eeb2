"""Which state of the source is running."""

import os
import subprocess


def revision():
    """Return what `git describe` says of the source, or None where it is no git checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        described = subprocess.run(["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=12"],
                                   capture_output=True, text=True, timeout=10, check=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
