"""Smooth coloured pictures, each seed another one."""

import numpy as np
from PIL import Image


def picture(seed, height=40, width=120):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [127 + 100 * np.sin(x / (4 + c) + seed + c) * np.cos(y / (5 + c)) for c in range(3)]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))
