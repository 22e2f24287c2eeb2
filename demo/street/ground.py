"""The ground as one picture along the road: asphalt with patches and markings, kerb stones, slabs, grass, soft shadows.

Rows of the picture follow the arc length s of the road's middle line, columns the distance d to its right.
"""

import numpy as np

from .textures import noise, octaves

ALONG, ACROSS = 12, 24  # texels per metre
REACH = 20.0  # metres painted on either side of the middle line
PAVEMENT_WIDTH = 2.4


def texels(s, d, start):
    """Texel coordinates (u, v) of ground points; the picture begins at arc length `start`."""
    return (d + REACH) * ACROSS, (s - start) * ALONG


def paint(rng, start, end, half_width, shadows):
    """Paint the ground between the arc lengths `start` and `end`.

    Args:
        half_width: of the road between its kerbs.
        shadows: rows (s, d, half length, half width, softness, strength), metres but for the last.
    """
    h, w = int((end - start) * ALONG), int(2 * REACH * ACROSS)
    s = (start + (np.arange(h, dtype=np.float32) + 0.5) / ALONG)[:, None]
    d = ((np.arange(w, dtype=np.float32) + 0.5) / ACROSS - REACH)[None]
    scale = (ALONG, ACROSS)
    broad = octaves(rng, h, w, 6.0, 0.8, scale)
    fine = octaves(rng, h, w, 0.6, 0.1, scale)
    image = np.empty((h, w, 3), np.float32)
    beside = np.abs(d[0]) - half_width
    kinds = beside <= 0, (beside > 0) & (beside <= PAVEMENT_WIDTH), beside > PAVEMENT_WIDTH
    road, slabs, yard = (np.nonzero(kind)[0] for kind in kinds)
    road = slice(road[0], road[-1] + 1)
    tone = _asphalt(rng, s, d[:, road], half_width, broad[:, road], fine[:, road])
    image[:, road] = tone[..., None] * np.array([1.0, 0.99, 0.97], np.float32)
    paved = np.concatenate([slabs, yard])
    tone = _slabs(rng, s, d[:, paved], broad[:, paved], fine[:, paved])
    image[:, paved] = tone[..., None] * np.array([1.0, 0.96, 0.9], np.float32)
    grass = (0.30 + 0.05 * broad[:, yard] + 0.05 * fine[:, yard])[..., None] * np.array([0.85, 1.15, 0.5], np.float32)
    meadow = noise(rng, h, w, 14 * ALONG, 5 * ACROSS)[:, yard] > -0.1
    image[:, yard] = np.where(meadow[..., None], grass, image[:, yard])
    kerb = (beside > 0) & (beside < 0.22)
    image[:, kerb] = (0.62 + 0.06 * noise(rng, h, 1, ALONG, 1) - 0.2 * (s % 1.0 < 0.08))[..., None]
    image[:, (beside > -0.35) & (beside <= 0)] *= 0.72  # the gutter
    shade = np.ones((h, w), np.float32)
    for row in shadows:
        _shadow(shade, s[:, 0], d[0], *row)
    image *= shade[..., None]
    return image


def _asphalt(rng, s, d, half_width, broad, fine):
    h, w = broad.shape
    tone = 0.36 + 0.045 * broad + 0.035 * fine
    for lane in (-1.6, 1.6):  # worn wheel tracks
        for track in (-0.75, 0.75):
            wear = 1 + 0.5 * noise(rng, h, 1, 5 * ALONG, 1)
            tone -= 0.035 * np.exp(-(((d - lane - track) / 0.28) ** 2)) * wear
    length = h / ALONG
    for _ in range(int(length * 0.5)):  # repairs
        s0, d0 = rng.uniform(s[0, 0], s[-1, 0]), rng.uniform(-half_width, half_width)
        long, wide = rng.uniform(0.6, 3.5), rng.uniform(0.4, 1.8)
        rows, columns = _slices(s, d, s0, s0 + long, d0 - wide / 2, d0 + wide / 2)
        tone[rows, columns] = tone[rows, columns] * 0.5 + 0.5 * rng.uniform(0.2, 0.46)
    for _ in range(int(length * 0.35)):  # stains and manholes
        s0, d0, radius = rng.uniform(s[0, 0], s[-1, 0]), rng.uniform(-3.5, 3.5), rng.uniform(0.2, 0.5)
        rows, columns = _slices(s, d, s0 - 2 * radius, s0 + 2 * radius, d0 - 2 * radius, d0 + 2 * radius)
        away = np.hypot(s[rows] - s0, d[:, columns] - d0)
        tone[rows, columns] -= 0.16 * np.clip((radius - away) / 0.12 + 0.5, 0, 1)
    for _ in range(int(length * 0.25)):  # tarred cracks
        s0, d0 = rng.uniform(s[0, 0], s[-1, 0]), rng.uniform(-half_width, half_width)
        rows, columns = _slices(s, d, s0, s0 + rng.uniform(2, 8), d0 - 1.5, d0 + 1.5)
        part = tone[rows, columns]
        bend = np.cumsum(rng.normal(0, 0.05, part.shape[0]))[:, None]
        part -= 0.15 * np.exp(-(((d[:, columns] - d0 - bend) / 0.06) ** 2))
    white = 0.78 + 0.05 * broad
    middle = (np.abs(d) < 0.08) & (s % 6.0 < 3.0)
    bays = (np.abs(np.abs(d) - (half_width - 2.05)) < 0.06) & (s % 3.0 < 1.6)
    tone = np.where(middle | bays, white, tone)
    crossings = np.arange(s[0, 0] + rng.uniform(15, 40), s[-1, 0], 47.0)
    for at in crossings:
        rows, columns = _slices(s, d, at, at + 3.0, -half_width + 0.3, half_width - 0.3)
        bars = np.broadcast_to((d[:, columns] + 20) % 1.2 < 0.6, tone[rows, columns].shape)
        tone[rows, columns] = np.where(bars, white[rows, columns], tone[rows, columns])
    return tone


def _slabs(rng, s, d, broad, fine):
    h, w = broad.shape
    tone = 0.50 + 0.03 * broad + 0.03 * fine
    pieces = rng.normal(0, 0.05, (h // ALONG + 2, w // ACROSS + 2)).astype(np.float32)
    rows, columns = ((s - s[0, 0]) // 1.0).astype(int), ((d - d[0, 0]) // 1.0).astype(int)
    tone += pieces[rows, columns]
    return tone - 0.12 * ((s - s[0, 0]) % 1.0 < 0.09) - 0.12 * ((d - d[0, 0]) % 1.0 < 0.05)


def _slices(s, d, s0, s1, d0, d1):
    rows = slice(*np.searchsorted(s[:, 0], (s0, s1)))
    return rows, slice(*np.searchsorted(d[0], (d0, d1)))


def _shadow(shade, s, d, s0, d0, half_length, half_width, softness, strength):
    """Darken a rounded rectangle; strongest inside, fading over `softness` metres."""
    rows, columns = _slices(
        s[:, None],
        d[None],
        s0 - half_length - 3 * softness,
        s0 + half_length + 3 * softness,
        d0 - half_width - 3 * softness,
        d0 + half_width + 3 * softness,
    )
    beyond = np.maximum(np.abs(s[rows, None] - s0) - half_length, 0)
    away = np.hypot(beyond, np.maximum(np.abs(d[None, columns] - d0) - half_width, 0))
    shade[rows, columns] *= 1 - strength * np.exp(-((away / softness) ** 2))
