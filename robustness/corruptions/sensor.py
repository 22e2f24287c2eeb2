"""The three corruptions that RoboDepth adds: darkness, noise at a high ISO setting, few bits per colour."""

import numpy as np

DARK_LIMIT = (0.6, 0.5, 0.4, 0.3, 0.2)  # brightest value left
DARK_GAMMA = 2.0
_PHOTONS = (60, 25, 12, 5, 3)
_READ_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_ISO_PHOTONS = 25


def dark(image, severity, seed):
    """Stretch to [0, limit] with gamma 2, then photon noise and read-out noise."""
    values = image / 255.0
    low, high = values.min(), values.max()
    if high > low:
        values = ((values - low) / (high - low)) ** DARK_GAMMA * DARK_LIMIT[severity - 1]
    return _noise(values, 10 * _PHOTONS[severity - 1], 0.1 * _READ_NOISE[severity - 1], seed)


def iso_noise(image, severity, seed):
    """Photon noise at a fixed rate, then read-out noise that grows with severity."""
    return _noise(image / 255.0, _ISO_PHOTONS, 0.7 * _READ_NOISE[severity - 1], seed)


def color_quant(image, severity):
    """Keep the upper 6 - severity bits of every channel."""
    dropped = 8 - (6 - severity)
    return image >> dropped << dropped


def _noise(values, photons, deviation, seed):
    """Poisson noise of `photons` at full brightness, clipped, then Gaussian noise; (H, W, 3) in [0, 1] to uint8."""
    rng = np.random.default_rng(seed)
    counted = np.clip(rng.poisson(values * photons) / photons, 0, 1)
    return np.uint8(np.clip(counted + rng.normal(scale=deviation, size=values.shape), 0, 1) * 255)
