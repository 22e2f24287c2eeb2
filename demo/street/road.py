"""The course of the road, and the map between it and the ground plane."""

import numpy as np


class Road:
    """The middle line x = c(z), a sum of long sines; places are told by arc length s and distance d to its right.

    Args:
        rng: draws the bends.
        start, end: metres of road wanted, around arc length 0 where x = 0 and z is about 0.
    """

    _STEP = 0.25

    def __init__(self, rng, start, end):
        z = np.arange(start - 10, end + 450, self._STEP)  # as far as the ground can be seen, and a little back
        x, slope = np.zeros_like(z), np.zeros_like(z)
        for wave, bend in ((rng.uniform(90, 120), 0.11), (rng.uniform(55, 75), 0.07)):
            phase = rng.uniform(0, 2 * np.pi)
            rate, bend = 2 * np.pi / wave, bend * rng.uniform(0.7, 1.2)
            x += bend / rate * np.sin(rate * z + phase)
            slope += bend * np.cos(rate * z + phase)
        arc = np.cumsum(np.hypot(1, slope)) * self._STEP
        origin = int(-z[0] / self._STEP)
        self._z0, self._arc, self._z = z[0], arc - arc[origin], z
        norm = np.hypot(1, slope)
        self._table = np.stack([x - x[origin], slope / norm, 1 / norm, self._arc], 1).astype(np.float32)
        self._slopes = np.diff(self._table, axis=0)

    def _at(self, z):
        position = np.clip((z - self._z0) / self._STEP, 0, len(self._table) - 2)
        index = position.astype(np.int32)
        return (self._table[index] + self._slopes[index] * (position - index).astype(np.float32)[..., None]).T

    def locate(self, x, z):
        """(s, d, sine and cosine of the road's heading) of the ground points (x, z), arrays of one shape."""
        x, z = np.asarray(x), np.asarray(z)
        middle, sine, cosine, _ = self._at(z)
        foot = z + (x - middle) * sine * cosine
        middle, sine, cosine, arc = self._at(foot)
        rest = z - foot
        return arc + (x - middle) * sine + rest * cosine, (x - middle) * cosine - rest * sine, sine, cosine

    def aside(self, x, z):
        """Distance to the right of the middle line."""
        return self.locate(x, z)[1]

    def place(self, s, d):
        """((x, z), heading) of the point at arc length `s`, `d` to the right."""
        z = np.interp(s, self._arc, self._z)
        middle, sine, cosine, _ = (float(value) for value in self._at(np.float64(z)))
        return (middle + d * cosine, z - d * sine), float(np.arctan2(sine, cosine))
