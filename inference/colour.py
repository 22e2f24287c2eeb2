"""Disparity as a picture: matplotlib's magma, dark far away and bright near by. Free of torch."""

import numpy as np

PERCENTILE = 95  # disparity shown with the brightest colour: a few near pixels must not darken the rest
LARGEST_ERROR = 0.5  # relative error of depth with the strongest colour


def colour_disparity(disparity, limits=None):
    """Return disparity (H, W), or (N,), as a picture: (..., 3) uint8, magma between limits.

    Args:
        limits: (darkest, brightest) disparity; those of `disparity_limits` without.
    """
    from matplotlib import colormaps

    low, high = disparity_limits(disparity) if limits is None else limits
    unit = (disparity - low) / (high - low) if high > low else np.zeros_like(disparity)
    return colormaps["magma"](unit, bytes=True)[..., :3]


def disparity_limits(disparity):
    """Return (minimum, 95th percentile) of disparity."""
    return float(disparity.min()), float(np.percentile(disparity, PERCENTILE))


def colour_error(relative):
    """Return signed relative errors of depth as colours, (..., 3) uint8: blue too near, red too far, pale right."""
    from matplotlib import colormaps

    return colormaps["coolwarm"](0.5 + relative / (2 * LARGEST_ERROR), bytes=True)[..., :3]
