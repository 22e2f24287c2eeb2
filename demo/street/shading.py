"""The colour that every ray brings back: filtered texture, sun and sky light, a little haze with distance."""

import numpy as np

from . import ground
from .raycast import FIRST_FACE, KERB, SKY

HAZE = np.array([0.80, 0.86, 0.92], np.float32)
HAZE_DISTANCE = 260.0  # metres after which 63 per cent of the light is haze
SKY_SPAN = (np.pi, np.pi / 6)  # width and height of the painted sky, radians


def shade(street, rays, inverse, surface):
    """Colour of every ray, (h, w, 3) float32 in [0, 1], from what `raycast.cast` returned."""
    shape = inverse.shape
    surface, inverse = surface.ravel(), inverse.ravel()
    picture = np.empty((surface.size, 3), np.float32)
    first_ball = FIRST_FACE + len(street.solids.reach)
    groups = (
        (surface == SKY, _sky),
        ((surface > SKY) & (surface <= KERB), _ground),
        ((surface >= FIRST_FACE) & (surface < first_ball), _faces),
        (surface >= first_ball, _balls),
    )
    for mask, paint in groups:
        chosen = np.nonzero(mask)[0]
        if len(chosen):
            rows, columns = np.divmod(chosen, shape[1])
            picture[chosen] = paint(street, rays, rays.x[columns], rays.y[rows], inverse[chosen], surface[chosen])
    clear = np.exp(-1 / (np.maximum(inverse, 1e-4) * HAZE_DISTANCE)).astype(np.float32)
    clear[surface == SKY] = 1
    picture = HAZE + (picture - HAZE) * clear[:, None]
    return np.clip(picture, 0, 1).reshape(*shape, 3)


def _linear(coefficients, x, y):
    return coefficients[0] * x + coefficients[1] * y + coefficients[2]


def _extents(u, v, normal, rays, depth):
    """Extent of a sample on a plane along two texture axes.

    Args:
        u, v, normal: what the two axes and the plane's normal are per slope x, per slope y and along the ray.
        depth: of the samples.
    """
    per_x, per_y = depth * rays.pitch_x, depth * rays.pitch_y
    extents = []
    for axis in (u, v):
        lean = axis[2] / normal[2]
        extents.append(np.hypot((axis[0] - lean * normal[0]) * per_x, (axis[1] - lean * normal[1]) * per_y))
    return extents


def _faces(street, rays, x, y, inverse, surface):
    solids, rotation = street.solids, rays.rotation
    table = np.concatenate([axis @ rotation for axis in (solids.axis_u, solids.axis_v, solids.normal)], 1)
    start = np.stack([solids.axis_u @ rays.origin, solids.axis_v @ rays.origin], 1) + solids.origin
    table = np.concatenate([table, start, solids.light[:, None]], 1).astype(np.float32)
    face = surface - FIRST_FACE
    t = table[face].T
    depth = 1 / inverse
    along = [_linear(t[3 * i : 3 * i + 3], x, y) for i in range(3)]
    axes = [(t[3 * i], t[3 * i + 1], along[i]) for i in range(3)]
    extent_u, extent_v = _extents(*axes, rays, depth)
    u, v = t[9] + depth * along[0], t[10] + depth * along[1]
    return street.textures.look_up(solids.texture[face], u, v, extent_u, extent_v) * t[11][:, None]


def _ground(street, rays, x, y, inverse, surface):
    rotation, origin, depth = rays.rotation.astype(np.float32), rays.origin, 1 / inverse
    sight = [_linear(rotation[axis], x, y) for axis in range(3)]
    place_x, place_z = origin[0] + depth * sight[0], origin[2] + depth * sight[2]
    s, d, sine, cosine = street.road.locate(place_x, place_z)
    # the texture's axes turn with the road: across (u) is (cosine, -sine), along (v) is (sine, cosine) in (x, z)
    pairs = list(zip((*rotation[0, :2], sight[0]), (*rotation[2, :2], sight[2]), strict=True))
    across, along = [cosine * a - sine * b for a, b in pairs], [sine * a + cosine * b for a, b in pairs]
    extent_d, extent_s = _extents(across, along, (rotation[1, 0], rotation[1, 1], sight[1]), rays, depth)
    u, v = ground.texels(s.astype(np.float32), d.astype(np.float32), street.ground_start)
    kerb = surface == KERB
    side = np.where(d < 0, -1, 1) * (street.half_width + 0.12)
    u = np.where(kerb, (side + ground.REACH) * ground.ACROSS, u)
    texture = np.full(len(u), street.ground_texture, np.int32)
    colour = street.textures.look_up(texture, u, v, extent_d * ground.ACROSS, extent_s * ground.ALONG)
    light = np.where(kerb, 0.68, street.solids.lambert(np.array([0.0, -1, 0])))
    return colour * light.astype(np.float32)[:, None]


def _balls(street, rays, x, y, inverse, surface):
    solids = street.solids
    ball = surface - FIRST_FACE - len(solids.reach)
    depth = 1 / inverse
    rotation = rays.rotation.astype(np.float32)
    sight = np.stack([_linear(rotation[axis], x, y) for axis in range(3)], 1)
    local = (rays.origin.astype(np.float32) - solids.centre[ball] + depth[:, None] * sight) / solids.radii[ball]
    normal = local / solids.radii[ball]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    width, height = street.textures.size(solids.ball_texture[0])
    turn = (np.arctan2(local[:, 0], local[:, 2]) / (2 * np.pi) + solids.ball_phase[ball]) % 1
    climb = np.arccos(np.clip(-local[:, 1], -1, 1)) / np.pi
    slant = np.maximum(np.abs((normal * sight).sum(1)) / np.linalg.norm(sight, axis=1), 0.2)
    extent = depth * rays.pitch_x / slant / solids.radii[ball, 0]
    colour = street.textures.look_up(
        solids.ball_texture[ball],
        (turn * width).astype(np.float32),
        (climb * height).astype(np.float32),
        (extent * width / (2 * np.pi)).astype(np.float32),
        (extent * height / np.pi).astype(np.float32),
    )
    return colour * solids.lambert(normal).astype(np.float32)[:, None]


def _sky(street, rays, x, y, inverse, surface):
    rotation = rays.rotation
    sight = [_linear(rotation[axis], x, y) for axis in range(3)]
    width, height = street.textures.size(street.sky_texture)
    u = (np.arctan2(sight[0], sight[2]) / SKY_SPAN[0] + 0.5) * width
    v = (1 - np.arctan2(-sight[1], np.hypot(sight[0], sight[2])) / SKY_SPAN[1]) * height
    extent = np.full(len(x), rays.pitch_x / SKY_SPAN[0] * width, np.float32)
    texture = np.full(len(x), street.sky_texture, np.int32)
    return street.textures.look_up(texture, u.astype(np.float32), v.astype(np.float32), extent, extent)
