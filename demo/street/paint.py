"""What surfaces look like: every function returns a picture, (h, w, 3) floats around [0, 1], to be put on a shape.

Rows run downwards, columns to the right as seen from outside. Strong structure sits at scales of 0.2 to 4 metres, since
finer detail vanishes at a distance and says nothing to a photometric error.
"""

import numpy as np

from .textures import noise, octaves

FACADE_SCALE = 20  # texels per metre
CAR_SCALE = 40

WALLS = [(0.70, 0.62, 0.48), (0.62, 0.36, 0.28), (0.78, 0.74, 0.66), (0.55, 0.52, 0.50), (0.72, 0.55, 0.36)]
WALLS += [(0.48, 0.30, 0.24), (0.58, 0.62, 0.60), (0.76, 0.66, 0.60), (0.50, 0.46, 0.36), (0.66, 0.70, 0.74)]
PAINTS = [(0.75, 0.75, 0.76), (0.16, 0.17, 0.19), (0.55, 0.10, 0.10), (0.13, 0.22, 0.45), (0.42, 0.44, 0.46)]
PAINTS += [(0.83, 0.82, 0.78), (0.20, 0.34, 0.26), (0.62, 0.50, 0.22), (0.30, 0.46, 0.60)]
ROOFS = [(0.42, 0.22, 0.17), (0.30, 0.28, 0.28), (0.46, 0.30, 0.22), (0.24, 0.26, 0.30)]


def pick(rng, colours):
    """One of the colours, slightly varied."""
    colour = np.array(colours[rng.integers(len(colours))])
    return np.clip(colour * rng.uniform(0.88, 1.12) + rng.normal(0, 0.02, 3), 0, 1)


def plain(rng, height, width, colour, scale=FACADE_SCALE, contrast=0.10, coarse=3.0, fine=0.1):
    """A weathered surface of `height` x `width` metres in one colour."""
    h, w = max(int(height * scale), 4), max(int(width * scale), 4)
    tone = octaves(rng, h, w, min(coarse, max(height, width)), fine, (scale, scale))
    return np.asarray(colour, np.float32) * (1 + contrast * tone[..., None])


def _box(image, top, bottom, left, right, colour, scale=FACADE_SCALE):
    """Paint a rectangle given in metres from the top left corner."""
    rows = slice(max(int(top * scale + 0.5), 0), max(int(bottom * scale + 0.5), 0))
    columns = slice(max(int(left * scale + 0.5), 0), max(int(right * scale + 0.5), 0))
    image[rows, columns] = colour
    return rows, columns


def facade(rng, height, width, colour, blind=False):
    """A house front: plinth, storeys with windows, a door, a cornice; `blind` leaves most windows out."""
    image = plain(rng, height, width, colour, contrast=0.13)
    h, w = image.shape[:2]
    if rng.random() < 0.45:  # courses of brick or cladding
        course = rng.uniform(0.25, 0.4)
        image *= (1 - 0.16 * (np.arange(h) / FACADE_SCALE % course < 0.06))[:, None, None]
        image *= 1 + 0.07 * noise(rng, h, w, course * FACADE_SCALE, 0.8 * FACADE_SCALE)[..., None]
    storey = rng.uniform(2.6, 3.2)
    pitch, wide, tall = rng.uniform(1.9, 3.0), rng.uniform(0.9, 1.4), rng.uniform(1.2, 1.7)
    frame = np.array(rng.choice([0.85, 0.2, 0.6])) * np.array([1, 0.98, 0.94])
    columns = max(int((width - 0.6) / pitch), 1)
    margin = (width - columns * pitch) / 2
    shop = not blind and rng.random() < 0.3
    door = rng.integers(columns)
    floors = max(int((height - 0.3) / storey), 1)
    for floor in range(floors):
        base = height - floor * storey
        if floor and rng.random() < 0.9:
            _box(image, base - 0.1, base + 0.1, 0, width, np.asarray(colour) * 0.72)
        for column in range(columns):
            if blind and rng.random() < 0.75:
                continue
            middle = margin + (column + 0.5) * pitch
            if floor == 0 and column == door and not blind:
                _door(rng, image, base, middle)
            elif floor == 0 and shop:
                _window(rng, image, base - 2.4, base - 0.6, middle - pitch * 0.42, middle + pitch * 0.42, frame)
            else:
                top = base - 0.9 - tall
                _window(rng, image, top, top + tall, middle - wide / 2, middle + wide / 2, frame)
    _box(image, height - 0.55, height, 0, width, image[-int(0.55 * FACADE_SCALE) :].mean((0, 1)) * 0.62)
    if not blind and shop:
        _box(image, height - 2.95, height - 2.5, 0.2, width - 0.2, pick(rng, PAINTS))
    _box(image, 0, 0.3, 0, width, np.asarray(colour) * 0.6)
    up = (h - np.arange(h)) / FACADE_SCALE
    image *= (1 - 0.25 * np.exp(-up / 0.5))[:, None, None]  # little sky reaches the foot of a wall
    return image * (1 + 0.05 * octaves(rng, h, w, 2.0, 0.1, (FACADE_SCALE,) * 2)[..., None])


def _window(rng, image, top, bottom, left, right, frame):
    _box(image, top - 0.12, bottom + 0.12, left - 0.12, right + 0.12, frame)
    glass = np.array([0.16, 0.2, 0.25]) * rng.uniform(0.5, 1.6)
    rows, columns = _box(image, top, bottom, left, right, glass)
    pane = image[rows, columns]
    if pane.size:
        pane += np.linspace(0.16, -0.05, pane.shape[0])[:, None, None]  # the sky's reflection
        if rng.random() < 0.4:  # a curtain
            pane[: int(pane.shape[0] * rng.uniform(0.3, 0.8))] = np.array([0.75, 0.72, 0.66]) * rng.uniform(0.6, 1)
    middle = (left + right) / 2
    _box(image, top, bottom, middle - 0.04, middle + 0.04, frame)
    _box(image, bottom + 0.1, bottom + 0.25, left - 0.2, right + 0.2, np.asarray(frame) * 0.7)


def _door(rng, image, base, middle):
    colour = pick(rng, PAINTS) * 0.7
    _box(image, base - 2.4, base, middle - 0.7, middle + 0.7, (0.8, 0.78, 0.74))
    _box(image, base - 2.2, base, middle - 0.5, middle + 0.5, colour)
    _box(image, base - 2.0, base - 1.3, middle - 0.35, middle + 0.35, colour * 0.5)


def roof(rng):
    """Rows of tiles, 4 x 6 metres."""
    image = plain(rng, 4, 6, pick(rng, ROOFS), contrast=0.12)
    image *= (1 - 0.25 * (np.arange(image.shape[0]) / FACADE_SCALE % 0.4 < 0.1))[:, None, None]
    return image


def leaves(rng, colour):
    """Foliage to wrap around a ball: dark gaps and lit clumps, closing on itself sideways."""
    h, w = 64, 160
    clumps = noise(rng, h, w, 9, 9) + 0.8 * noise(rng, h, w, 4, 4) + 0.4 * noise(rng, h, w, 2, 2)
    tone = 0.72 + 0.26 * np.tanh(clumps) + np.linspace(0.22, -0.28, h)[:, None]
    fade = np.linspace(0, 1, 16)
    tone[:, :16] = tone[:, :16] * fade + tone[:, : -17 : -1] * (1 - fade)  # the last column continues in the first
    return np.asarray(colour) * tone[..., None]


def car_side(rng, colour):
    """The lower flank of a car, 4.2 x 0.85 m: wheels, sill, doors, and the dark gap beneath."""
    h, w = int(0.85 * CAR_SCALE), int(4.2 * CAR_SCALE)
    y, x = np.mgrid[:h, :w] / CAR_SCALE
    image = np.asarray(colour) * (1.06 - 0.28 * y[..., None])
    image *= 1 + 0.07 * noise(rng, h, w, 12, 30)[..., None]
    image[(y > 0.40) & (y < 0.44)] *= 0.75
    for door in (1.35, 2.2, 3.05):
        image[(np.abs(x - door) < 0.02) & (y < 0.6)] *= 0.55
    image[y > 0.64] = 0.05
    for wheel in (0.8, 3.4):
        away = np.hypot(x - wheel, y - 0.53)
        image[away < 0.39] = 0.04
        image[away < 0.31] = 0.08
        image[away < 0.19] = (0.55, 0.56, 0.58)
        image[away < 0.06] = 0.2
    for end, light in ((0.0, (0.75, 0.15, 0.1)), (4.2, (0.9, 0.9, 0.8))):
        image[(np.abs(x - end) < 0.22) & (np.abs(y - 0.18) < 0.1)] = light
    return image


def car_end(rng, colour, front):
    """Front or rear of a car, 1.75 x 0.85 m."""
    h, w = int(0.85 * CAR_SCALE), int(1.75 * CAR_SCALE)
    y, x = np.mgrid[:h, :w] / CAR_SCALE
    aside = np.abs(x - 0.875)
    image = np.asarray(colour) * (1.02 - 0.25 * y[..., None])
    image *= 1 + 0.07 * noise(rng, h, w, 12, 20)[..., None]
    image[(aside > 0.52) & (aside < 0.8) & (np.abs(y - 0.2) < 0.1)] = (0.95, 0.95, 0.85) if front else (0.7, 0.08, 0.06)
    image[(aside < 0.42) & (np.abs(y - (0.25 if front else 0.3)) < (0.09 if front else 0.02))] = 0.08
    image[(aside < 0.26) & (np.abs(y - 0.45) < 0.06)] = (0.92, 0.9, 0.75)
    image[(y > 0.55) & (y < 0.6)] *= 0.5
    image[y > 0.68] = 0.04
    image[(y > 0.55) & (aside > 0.6)] = 0.06
    return image


def car_glass(rng, colour, side):
    """The upper part of a car: windows between pillars, 2.4 x 0.6 m (side) or 1.5 x 0.6 m (front and rear)."""
    width = 2.4 if side else 1.5
    h, w = int(0.6 * CAR_SCALE), int(width * CAR_SCALE)
    y, x = np.mgrid[:h, :w] / CAR_SCALE
    image = np.empty((h, w, 3))
    image[:] = np.asarray(colour) * 0.95
    glass = (y > 0.08) & (y < 0.54) & (x > 0.1) & (x < width - 0.1)
    if side:
        glass &= (np.abs(x - width / 2) > 0.05) & (np.abs(x - width * 0.86) > 0.04)
    shine = 0.30 - 0.36 * y + 0.07 * noise(rng, h, w, 10, 24)
    return np.where(glass[..., None], shine[..., None] * np.array([0.8, 0.95, 1.1]), image)


def van_side(rng, colour):
    """The flank of a van, 5 x 2.1 m."""
    h, w = int(2.1 * CAR_SCALE), int(5 * CAR_SCALE)
    y, x = np.mgrid[:h, :w] / CAR_SCALE
    image = np.asarray(colour) * (1.04 - 0.08 * y[..., None]) * (1 + 0.07 * noise(rng, h, w, 20, 40)[..., None])
    image[(y > 0.3) & (y < 0.95) & (x > 3.6) & (x < 4.5)] = (0.14, 0.17, 0.2)
    image[(y > 0.75) & (y < 1.15) & (x > 0.6) & (x < 3.0)] = pick(rng, PAINTS)
    for line in (1.8, 3.4):
        image[np.abs(x - line) < 0.02] *= 0.6
    image[y > 1.86] = 0.05
    for wheel in (0.9, 4.1):
        away = np.hypot(x - wheel, y - 1.75)
        image[away < 0.42] = 0.05
        image[away < 0.2] = (0.5, 0.5, 0.52)
    return image


def van_end(rng, colour, front):
    """Front or rear of a van, 1.9 x 2.1 m."""
    h, w = int(2.1 * CAR_SCALE), int(1.9 * CAR_SCALE)
    y, x = np.mgrid[:h, :w] / CAR_SCALE
    aside = np.abs(x - 0.95)
    image = np.asarray(colour) * (1.0 - 0.06 * y[..., None]) * (1 + 0.07 * noise(rng, h, w, 20, 30)[..., None])
    image[(y > 0.25) & (y < 0.95) & (aside < 0.8)] = (0.15, 0.18, 0.22)
    if not front:
        image[aside < 0.03] *= 0.5
    image[(aside > 0.6) & (aside < 0.85) & (np.abs(y - 1.3) < 0.15)] = (0.9, 0.9, 0.8) if front else (0.7, 0.1, 0.08)
    image[(aside < 0.27) & (np.abs(y - 1.6) < 0.07)] = (0.92, 0.9, 0.75)
    image[(y > 1.8)] = 0.05
    return image


def sky(rng):
    """Half a turn of sky from 30 degrees up down to the horizon."""
    h, w = 120, 720
    up = np.linspace(1, 0, h)[:, None]
    clouds = octaves(rng, h, w, 60, 8, (0.35, 1.0), falloff=0.6)
    cover = np.clip(0.25 + 0.45 * clouds, 0, 1)[..., None] * np.clip(up * 3, 0, 1)[..., None]
    blue = np.array([0.80, 0.86, 0.92]) * (1 - up[..., None]) + np.array([0.40, 0.58, 0.84]) * up[..., None]
    return blue * (1 - cover) + np.array([0.95, 0.95, 0.96]) * cover
