"""How long OpenMP's threads spin at a meeting before they sleep; to be set before torch is loaded.

By default they spin for milliseconds. Where another program (or a loader worker) holds a core, the thread that is
waited for cannot come, and the others burn the very cores that it needs: two runs on the same cores take many times as
long as one. A short spin loses little where the cores are free.
"""

import os

SPINS = 2000  # turns of GNU OpenMP's waiting loop, some microseconds


def spin_briefly():
    """Let GNU OpenMP's threads spin briefly, unless the user's environment says how they wait."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
