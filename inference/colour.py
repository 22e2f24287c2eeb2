"""Disparity as a picture: matplotlib's magma or another of its maps, near is at the map's end. Free of torch."""

import functools
import math

import numpy as np

from system.errors import UserError

PERCENTILE = 95  # disparity shown with the brightest colour: a few near pixels must not darken the rest
LARGEST_ERROR = 0.5  # relative error of depth with the strongest colour
DEFAULT_MAP = "magma"
ADAPTATION = 2.0  # seconds in which the range of a video follows a change for the most part (63 %)
_LOW_PERCENTILE = 2  # of a video's frame: a single far pixel must not shake the range
_SAMPLING = 4  # every so manyth row and column is looked at for a video's range


def check_colour_map(name):
    """Raise `UserError` unless matplotlib has a colour map of this name."""
    from matplotlib import colormaps

    if name not in colormaps:
        raise UserError("no such colour map", name, "give one of matplotlib's: magma, viridis, turbo, gray, Spectral")


def colour_disparity(disparity, limits=None, colour_map=DEFAULT_MAP):
    """Return disparity (H, W), or (N,), as a picture: (..., 3) uint8, a colour map between limits.

    Args:
        limits: (darkest, brightest) disparity; those of `disparity_limits` without.
        colour_map: name of one of matplotlib's.
    """
    from matplotlib import colormaps

    low, high = disparity_limits(disparity) if limits is None else limits
    unit = (disparity - low) / (high - low) if high > low else np.zeros_like(disparity)
    return colormaps[colour_map](unit, bytes=True)[..., :3]


def disparity_limits(disparity):
    """Return (minimum, 95th percentile) of disparity."""
    return float(disparity.min()), float(np.percentile(disparity, PERCENTILE))


def colour_error(relative):
    """Return signed relative errors of depth as colours, (..., 3) uint8: blue too near, red too far, pale right."""
    from matplotlib import colormaps

    return colormaps["coolwarm"](0.5 + relative / (2 * LARGEST_ERROR), bytes=True)[..., :3]


@functools.cache
def colour_table(colour_map=DEFAULT_MAP):
    """Return a map's 256 colours, (256, 1, 3) uint8, for `colour_by_table`."""
    from matplotlib import colormaps

    return np.ascontiguousarray(colormaps[colour_map](np.arange(256) / 255, bytes=True)[:, None, :3])


def colour_by_table(disparity, low, high, table, size=None):
    """Return disparity (H, W) as a picture (H, W, 3) uint8: `low` and below is the table's first colour.

    In 256 steps, some times as fast as `colour_disparity`; `size`, (width, height), of the picture, if it is another.
    """
    import cv2

    scale = 255 / (high - low) if high > low else 0.0
    level = np.clip((disparity - np.float32(low)) * np.float32(scale) + np.float32(0.5), 0, 255)
    return cv2.applyColorMap((cv2.resize(level, size) if size else level).astype(np.uint8), table)


class SteadyRange:
    """The range of disparity that a video's colours stand for: fixed, or percentiles that follow changes slowly.

    Args:
        limits: (nearest, farthest) depth; without, the 2nd and 95th percentile of each frame, smoothed over time.
    """

    def __init__(self, limits=None):
        self.fixed = (1 / limits[1], 1 / limits[0]) if limits else None
        self._range, self._time = None, None

    def follow(self, disparity, seconds):
        """Return (low, high) for the frame at this time, `seconds` never falling."""
        if self.fixed:
            return self.fixed
        now = np.percentile(disparity[::_SAMPLING, ::_SAMPLING], (_LOW_PERCENTILE, PERCENTILE))
        if self._range is None:
            self._range = now
        else:
            self._range = now + math.exp(-(seconds - self._time) / ADAPTATION) * (self._range - now)
        self._time = seconds
        return tuple(self._range)
