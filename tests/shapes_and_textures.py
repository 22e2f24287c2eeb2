"""A made-up image folder: ten classes that differ by shape and by texture.

python tests/shapes_and_textures.py OUT [TRAINING IMAGES A CLASS] [VALIDATION IMAGES A CLASS]
"""

import os
import sys

import numpy as np
from PIL import Image

SHAPES = {
    "disc": lambda u, v: u**2 + v**2 < 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) < 0.9,
    "triangle": lambda u, v: (v < 0.9) & (v > 2 * abs(u) - 0.9),
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) < 0.35) & (np.maximum(abs(u), abs(v)) < 1),
    "ring": lambda u, v: (u**2 + v**2 < 1) & (u**2 + v**2 > 0.3),
}
TEXTURES = {  # of row, column in periods -> light or dark
    "rows": lambda r, c: r % 1 < 0.5,
    "columns": lambda r, c: c % 1 < 0.5,
    "checks": lambda r, c: (r % 1 < 0.5) ^ (c % 1 < 0.5),
    "dots": lambda r, c: (r % 1 - 0.5) ** 2 + (c % 1 - 0.5) ** 2 < 0.08,
    "plain": lambda r, c: r > -np.inf,
    "mesh": lambda r, c: (r % 1 < 0.25) | (c % 1 < 0.25),
    "broad_rows": lambda r, c: r / 2 % 1 < 0.5,
    "broad_columns": lambda r, c: c / 2 % 1 < 0.5,
    "broad_checks": lambda r, c: (r / 2 % 1 < 0.5) ^ (c / 2 % 1 < 0.5),
    "slanted": lambda r, c: (r + c) % 1 < 0.5,
}
CLASSES = [f"{shape}_of_{texture}" for shape, texture in zip(2 * list(SHAPES), TEXTURES, strict=True)]


def picture(name, chance, size=64):
    """Return an RGB image, uint8 (size, size, 3), of the class `name`: place, scale, colours and phase vary."""
    shape, texture = name.split("_of_")
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    radius = size * chance.uniform(0.38, 0.48)
    cy, cx = chance.uniform(radius, size - radius, 2)
    inside = SHAPES[shape]((x - cx) / radius, (y - cy) / radius)
    period, phase = size / chance.uniform(7, 9), chance.uniform(0, 1, 2)
    light = TEXTURES[texture](y / period + phase[0], x / period + phase[1])
    colours = chance.uniform(0, 60, 3), chance.uniform(195, 255, 3)
    image = np.where(inside[..., None], np.where(light[..., None], colours[1], colours[0]), chance.uniform(90, 160, 3))
    return np.clip(image + chance.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def write_folder(out, train=40, val=10, classes=CLASSES, size=64, seed=0):
    """Write train/<class>/<number>.png and val/<class>/<number>.png; return `out` as a string."""
    chance = np.random.default_rng(seed)
    for part, count in (("train", train), ("val", val)):
        for name in classes:
            folder = os.path.join(out, part, name)
            os.makedirs(folder, exist_ok=True)
            for number in range(count):
                Image.fromarray(picture(name, chance, size)).save(os.path.join(folder, f"{number:03d}.png"))
    return str(out)


if __name__ == "__main__":
    write_folder(sys.argv[1], *map(int, sys.argv[2:]))
