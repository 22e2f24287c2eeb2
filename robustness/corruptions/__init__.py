"""The eighteen corruptions: one image, its corruption, the severity and a seed in, the corrupted image out.

The package imagecorruptions-imaug computes thirteen of them; its zoom and glass blur, which take most of its time, are
`blurs`, equal to the last bit; RoboDepth's own three are `sensor`.
"""

import numpy as np

from robustness import CORRUPTIONS, SEVERITIES
from robustness.corruptions import blurs, library, sensor

_OWN = {
    "zoom_blur": lambda image, severity, seed: blurs.zoom_blur(image, severity),
    "glass_blur": blurs.glass_blur,
    "dark": sensor.dark,
    "iso_noise": sensor.iso_noise,
    "color_quant": lambda image, severity, seed: sensor.color_quant(image, severity),
}
FROM_PACKAGE = frozenset(CORRUPTIONS) - _OWN.keys()


def corrupt(image, name, severity, seed):
    """Return a corrupted image, (H, W, 3) uint8, the same for the same arguments on any number of processes.

    Args:
        image: (H, W, 3) uint8, at least 32x32.
        name: one of `robustness.CORRUPTIONS`.
        severity: 1 to 5.
        seed: whole number below 2^32.

    Raises:
        UserError: the package behind most of them is missing.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(f"no corruption {name!r} of severity {severity}")
    return _OWN.get(name, library.named(name))(image, severity, seed)


def image_seed(seed, name, severity, index):
    """Return the seed of one image, which depends on these four alone."""
    entropy = (seed, CORRUPTIONS.index(name), severity, index)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
