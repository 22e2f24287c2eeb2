"""Learning rates as a pure function of the epoch: cosine cycles whose peak decays. Free of torch."""

import math

DEFAULT_LR = (1e-4, 5e-6, 31, 1e-4, 1e-5, 31)
CYCLE_DECAY = 0.9  # of the peak, each time a cycle restarts
LAST_EPOCHS = 0.2  # a restart within this last part of a run leaves it no time to settle


def learning_rate(epoch, high, low, cycle):
    """Return the rate of an epoch, counted from 0.

    Epoch e stands at step e + 1 of the cosine, as in the published code, so that 30 epochs go with a cycle of 31.

    Args:
        epoch: 0, 1, ...
        high, low: rates at the start and end of the first cycle.
        cycle: epochs from one restart to the next, at least 1.
    """
    finished, position = divmod(epoch + 1, int(cycle))
    peak = high * CYCLE_DECAY**finished
    return low + (peak - low) * (1 + math.cos(math.pi * position / int(cycle))) / 2


def late_restart(epochs, cycle):
    """Return the epoch of a restart that falls into the last fifth of a run, or None."""
    restarts = [epoch for epoch in range(epochs) if (epoch + 1) % int(cycle) == 0 and cycle > 1]
    return restarts[-1] if restarts and restarts[-1] >= epochs * (1 - LAST_EPOCHS) else None
