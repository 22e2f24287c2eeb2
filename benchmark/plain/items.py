"""Training items the long way round: every frame at its native size and four levels, and all of these jittered."""

import random

import numpy as np
import torch
from PIL import Image

LEVELS = 4


def load_item(paths, height, width, rng):
    """Return a training item as a dict of float tensors.

    Args:
        paths: {frame: image file}.
        height, width: of scale 0.
        rng: `random.Random`; each image draws its own jitter, as the published code does.
    """
    item, flip = {}, rng.random() > 0.5
    coloured = rng.random() > 0.5
    for frame, path in paths.items():
        with Image.open(path) as file:
            image = file.convert("RGB")
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        levels = {-1: image}
        for scale in range(LEVELS):
            levels[scale] = levels[scale - 1].resize((width // 2**scale, height // 2**scale), Image.Resampling.LANCZOS)
        for scale, level in levels.items():
            item["color", frame, scale] = to_tensor(level)
            item["color_aug", frame, scale] = to_tensor(jittered(level, rng) if coloured else level)
        del item["color", frame, -1], item["color_aug", frame, -1]
    for scale in range(LEVELS):
        K = np.array([[0.58, 0, 0.5, 0], [0, 1.92, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)
        K[0] *= width // 2**scale
        K[1] *= height // 2**scale
        item["K", scale], item["inv_K", scale] = torch.from_numpy(K), torch.from_numpy(np.linalg.pinv(K))
    return item


def jittered(image, rng):
    """Return a PIL image in other colours: torchvision's operations on bytes, in random order."""
    from torchvision.transforms import functional

    steps = [
        (functional.adjust_brightness, rng.uniform(0.8, 1.2)),
        (functional.adjust_contrast, rng.uniform(0.8, 1.2)),
        (functional.adjust_saturation, rng.uniform(0.8, 1.2)),
        (functional.adjust_hue, rng.uniform(-0.1, 0.1)),
    ]
    rng.shuffle(steps)
    for adjust, amount in steps:
        image = adjust(image, amount)
    return image


def to_tensor(image):
    """Return (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255


def random_numbers(seed):
    """Return what `load_item` draws from."""
    return random.Random(seed)
