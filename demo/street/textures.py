"""Noise, and the store of all textures of a world with its anisotropic mip-maps ("rip-maps").

A texture is halved along both axes independently, so that a surface seen at a grazing angle is filtered strongly along
the line of sight and weakly across it. A lookup blends the neighbouring levels, which keeps every surface
band-limited at any distance: nothing flickers from frame to frame.
"""

import numpy as np
from PIL import Image

LEVELS = 7  # 64 texels shrink to one; coarser detail than that is never below a pixel in a street
_SHRINK = (0.5 ** np.arange(LEVELS)).astype(np.float32)


def noise(rng, height, width, cell_y, cell_x):
    """Smooth random field of unit deviation, (height, width) float32, with features of `cell_y` x `cell_x` texels."""
    rows, cols = int(np.ceil(height / cell_y)) + 3, int(np.ceil(width / cell_x)) + 3
    grid = Image.fromarray(rng.standard_normal((rows, cols)).astype(np.float32))
    left, top = 1 + rng.random(), 1 + rng.random()
    box = (left, top, min(left + width / cell_x, cols), min(top + height / cell_y, rows))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=box)) / 0.75


def octaves(rng, height, width, coarse, fine, per_metre=(1.0, 1.0), falloff=0.75):
    """Sum of `noise` octaves with features from `coarse` down to `fine` metres, normalised to unit deviation.

    Args:
        per_metre: texels per metre along y and x.
        falloff: amplitude of an octave relative to the next coarser one.
    """
    total, power, amplitude, cell = 0.0, 0.0, 1.0, coarse
    while cell >= fine:
        cells = max(cell * per_metre[0], 1.0), max(cell * per_metre[1], 1.0)
        total = total + amplitude * noise(rng, height, width, *cells)
        power += amplitude**2
        amplitude *= falloff
        cell /= 2
    return (total / np.sqrt(power)).astype(np.float32)


def _halve(image, axis):
    if image.shape[axis] == 1:
        return image
    if image.shape[axis] % 2:
        image = np.concatenate([image, np.take(image, [-1], axis)], axis)
    even, odd = (slice(None),) * axis + (slice(0, None, 2),), (slice(None),) * axis + (slice(1, None, 2),)
    return (image[even] + image[odd]) * 0.5


class TextureStore:
    """All textures of a world in one flat array of packed texels; `add` while painting, `freeze`, then `look_up`."""

    def __init__(self):
        self._texels, self._offsets, self._sizes, self._used = [], [], [], 0

    def add(self, image):
        """Store a picture, (h, w, 3) floats in [0, 1]; returns its number."""
        height, width = image.shape[:2]
        offsets = np.zeros((LEVELS, LEVELS), np.int64)
        across = np.clip(image, 0, 1).astype(np.float32) * 255
        for i in range(LEVELS):
            both = across
            for j in range(LEVELS):
                packed = np.zeros((*both.shape[:2], 4), np.uint8)
                packed[..., :3] = np.rint(both)
                offsets[i, j] = self._used
                self._texels.append(packed.reshape(-1, 4))
                self._used += len(self._texels[-1])
                both = _halve(both, 0)
            across = _halve(across, 1)
        self._offsets.append(offsets)
        self._sizes.append((width, height))
        return len(self._offsets) - 1

    def size(self, number):
        """(width, height) of a texture in texels."""
        return self._sizes[number]

    def freeze(self):
        """Lay the texels out for lookups; nothing can be added afterwards."""
        self.texels = np.concatenate(self._texels).view(np.uint32)[:, 0]
        self.offsets = np.stack(self._offsets).reshape(-1).astype(np.int32)
        sizes = np.array(self._sizes)
        halved = [sizes]
        for _ in range(LEVELS - 1):
            halved.append(-(-halved[-1] // 2))
        self.level_sizes = np.stack(halved).astype(np.int32)  # (level, texture, 2)
        self._texels = None

    def look_up(self, texture, u, v, footprint_u, footprint_v):
        """Filtered colour of n samples.

        Args:
            texture: (n,) texture numbers.
            u, v: (n,) texel coordinates at full size, texel i reaching from i to i + 1; clamped at the border.
            footprint_u, footprint_v: (n,) extent of the sample in texels at full size.

        Returns:
            (n, 3) float32 in [0, 1].
        """
        level_u, part_u = _level(footprint_u)
        level_v, part_v = _level(footprint_v)
        total = np.empty((len(u), 3), np.float32)
        blend_u, blend_v = part_u > 0, part_v > 0
        for both_u in (False, True):  # most samples need a single level: those with the same needs go together
            for both_v in (False, True):
                chosen = np.nonzero((blend_u == both_u) & (blend_v == both_v))[0]
                if not len(chosen):
                    continue
                columns = (texture, u, v, level_u, level_v, part_u, part_v)
                total[chosen] = self._sample(*(column[chosen] for column in columns), both_u, both_v)[:, :3]
        return total * np.float32(1 / 255)

    def _sample(self, texture, u, v, level_u, level_v, part_u, part_v, both_u, both_v):
        """Bilinear samples, blended over one or two levels along each axis."""
        across = [(level_u, 1 - part_u), (level_u + 1, part_u)][: 1 + both_u]
        down = [(level_v, 1 - part_v), (level_v + 1, part_v)][: 1 + both_v]
        down = [(j, share, *self._neighbours(texture, v, j, 1)) for j, share in down]
        total = np.zeros((len(u), 4), np.float32)
        for i, share_u in across:
            x0, x1, weight_x = self._neighbours(texture, u, i, 0)
            width = self.level_sizes[i, texture, 0]
            for j, share_v, y0, y1, weight_y in down:
                start = self.offsets[(texture * LEVELS + i) * LEVELS + j]
                share = share_u * share_v
                for y, part in ((y0, share * (1 - weight_y)), (y1, share * weight_y)):
                    row = start + y * width
                    right = part * weight_x
                    total += self._texel(row + x0) * (part - right)[:, None]
                    total += self._texel(row + x1) * right[:, None]
        return total

    def _texel(self, index):
        return self.texels[index].view(np.uint8).reshape(-1, 4)

    def _neighbours(self, texture, position, level, axis):
        last = self.level_sizes[level, texture, axis] - 1
        position = np.clip(position * _SHRINK[level] - np.float32(0.5), 0, last.astype(np.float32))
        low = position.astype(np.int32)
        return low, np.minimum(low + 1, last), position - low.astype(np.float32)


def _level(footprint):
    """Whole level, and the share of the next one: 0 or 1 (then one level up) but for the middle half of the way."""
    level = np.clip(np.log2(np.maximum(footprint, 1e-3)), 0, LEVELS - 1).astype(np.float32)
    low = level.astype(np.int32)
    part = np.clip(2 * (level - low) - 0.5, 0, 1)
    full = part == 1
    return low + full, np.where(full, np.float32(0), part)
