"""Disparity as a picture: matplotlib's magma, dark far away and bright near by. Free of torch."""

import numpy as np

PERCENTILE = 95  # disparity shown with the brightest colour: a few near pixels must not darken the rest


def colour_disparity(disparity):
    """Return disparity (H, W) as a picture, (H, W, 3) uint8: magma from its minimum to its 95th percentile."""
    from matplotlib import colormaps

    low, high = float(disparity.min()), float(np.percentile(disparity, PERCENTILE))
    unit = (disparity - low) / (high - low) if high > low else np.zeros_like(disparity)
    return colormaps["magma"](unit, bytes=True)[..., :3]
