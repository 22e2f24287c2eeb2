"""Which surface every ray of a picture meets first, and at what depth.

Rays start at the camera and pass through a grid of pixels. Along such a grid the inverse depth of a plane is a linear
function of the pixel, q = a x + b y + c; so a convex block is met at the smallest q among the planes that the
camera is in front of, provided that it is larger than the q of every plane the camera is behind. Buffers hold inverse
depth, 0 for the sky.
"""

import dataclasses

import numpy as np

SKY, ROAD, PAVEMENT, KERB, FIRST_FACE = -1, 0, 1, 2, 3
NEAR = 0.3  # metres; nothing stands closer to the camera
FARTHEST = 600.0  # metres; ground beyond it counts as sky


@dataclasses.dataclass
class Rays:
    """A camera and the pixels to look through: `x` (w,) and `y` (h,) are slopes dX/dZ and dY/dZ of columns and rows.

    `rotation` (3, 3) and `origin` (3,) map camera to world coordinates; `pitch_x`, `pitch_y` are the slopes' steps.
    """

    x: np.ndarray
    y: np.ndarray
    pitch_x: float
    pitch_y: float
    rotation: np.ndarray
    origin: np.ndarray

    @classmethod
    def through_pixels(cls, rig, world_from_camera, samples=1):
        """Rays through `samples` x `samples` evenly spread points of every pixel of the rig's picture."""
        steps = (np.arange(samples) + 0.5) / samples - 0.5
        columns = (np.arange(rig.width)[:, None] + steps).ravel()
        rows = (np.arange(rig.height)[:, None] + steps).ravel()
        (fx, fy), (cx, cy) = rig.focal, rig.centre
        x, y = ((columns - cx) / fx).astype(np.float32), ((rows - cy) / fy).astype(np.float32)
        return cls(x, y, 1 / (fx * samples), 1 / (fy * samples), world_from_camera[:3, :3], world_from_camera[:3, 3])

    def windows(self, corners):
        """Where in the grid convex hulls may be seen.

        Args:
            corners: (n, 8, 3) points that span n hulls.

        Returns:
            list of (number of the hull, (rows, columns)) with slices, without the hulls that are out of view.
        """
        local = (corners - self.origin) @ self.rotation
        depth = local[..., 2]
        front = depth > NEAR
        found = []
        straddling = front.any(1) & ~front.all(1)
        slopes = local[..., :2] / np.where(front, depth, 1)[..., None]
        low, high = slopes.min(1), slopes.max(1)
        for hull in np.nonzero(straddling)[0]:  # edges (and diagonals, which only widen the window) cut the near plane
            seen, hidden = local[hull][front[hull]], local[hull][~front[hull]]
            ahead, behind = seen[:, None], hidden[None]
            part = (ahead[..., 2:] - NEAR) / (ahead[..., 2:] - behind[..., 2:])
            seen = np.concatenate([seen, (ahead + part * (behind - ahead)).reshape(-1, 3)])
            low[hull], high[hull] = (seen[:, :2] / seen[:, 2:]).min(0), (seen[:, :2] / seen[:, 2:]).max(0)
        left, right = np.searchsorted(self.x, low[:, 0]), np.searchsorted(self.x, high[:, 0], "right")
        top, bottom = np.searchsorted(self.y, low[:, 1]), np.searchsorted(self.y, high[:, 1], "right")
        for hull in np.nonzero(front.any(1) & (left < right) & (top < bottom))[0]:
            found.append((hull, (slice(top[hull], bottom[hull]), slice(left[hull], right[hull]))))
        return found


def cast(street, rays):
    """Cast every ray of `rays` into `street`.

    Returns:
        inverse depth (h, w) float32, 0 where the sky is seen, and the surface met (h, w) int32: SKY, ROAD, PAVEMENT,
        KERB, FIRST_FACE + face, or FIRST_FACE + number of faces + ball.
    """
    inverse, surface = _ground(street, rays)
    _blocks(street.solids, rays, inverse, surface)
    _balls(street.solids, rays, inverse, surface)
    return inverse, surface


def _ground(street, rays):
    """The road, the raised pavements beside it and the kerb's upright face between them."""
    shape = len(rays.y), len(rays.x)
    inverse, surface = np.zeros(shape, np.float32), np.full(shape, SKY, np.int32)
    down = rays.rotation[1]  # how fast a ray falls, as a linear function of the slopes
    falling = (down[0] * rays.x + (down[1] * rays.y + down[2])[:, None]).astype(np.float32)
    above = -rays.origin[1]
    hit = np.nonzero((falling > above / FARTHEST).ravel())[0]
    rate = falling.ravel()[hit]
    rows, columns = np.divmod(hit, shape[1])
    x, y = rays.x[columns], rays.y[rows]
    sight = [rays.rotation[axis, 0] * x + rays.rotation[axis, 1] * y + rays.rotation[axis, 2] for axis in (0, 2)]
    depth_high, depth_low = (above - street.kerb_height) / rate, above / rate
    high = _beside(street, rays.origin, sight, depth_high)
    low = np.nonzero(high < 0)[0]  # the rays that fall past the pavement
    high, sight = high[low], [part[low] for part in sight]
    low_beside = _beside(street, rays.origin, sight, depth_low[low])
    share = np.where(low_beside <= 0, 1, np.clip(high / np.minimum(high - low_beside, -1e-6), 0, 1))
    depth, kind = depth_high.copy(), np.full(len(hit), PAVEMENT, np.int32)
    depth[low] += share * (depth_low - depth_high)[low]
    kind[low] = np.where(low_beside <= 0, ROAD, KERB)
    inverse.ravel()[hit] = 1 / depth
    surface.ravel()[hit] = kind
    return inverse, surface


def _beside(street, origin, sight, depth):
    """How far the ground met at `depth` lies beyond the nearer kerb, metres."""
    return np.abs(street.road.aside(origin[0] + depth * sight[0], origin[2] + depth * sight[1])) - street.half_width


def _blocks(solids, rays, inverse, surface):
    gap = solids.reach - solids.normal @ rays.origin  # below 0: the camera is in front of the face
    gap = np.where(np.abs(gap) < 1e-9, 1e-9, gap)
    planes = ((solids.normal @ rays.rotation) / gap[:, None]).astype(np.float32)
    for block, window in rays.windows(solids.corners):
        first, last = solids.blocks[block]
        rows, columns = window
        x, y = rays.x[columns], rays.y[rows, None]
        faces = [(planes[f, 0] * x + (planes[f, 1] * y + planes[f, 2]), f) for f in range(first, last)]
        ahead = [(q, f) for q, f in faces if gap[f] < 0]
        if not ahead:
            continue
        nearest, which = ahead[0][0], np.full(ahead[0][0].shape, ahead[0][1], np.int32)
        for q, f in ahead[1:]:
            closer = q < nearest
            nearest = np.where(closer, q, nearest)
            which[closer] = f
        met = nearest > inverse[window]
        for q, f in faces:
            if gap[f] > 0:
                met &= nearest >= q
        inverse[window][met] = nearest[met]
        surface[window][met] = which[met] + FIRST_FACE


def _balls(solids, rays, inverse, surface):
    start = FIRST_FACE + len(solids.reach)
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    for number, window in rays.windows(solids.centre[:, None] + signs * solids.radii[:, None]):
        centre, radii = solids.centre[number], solids.radii[number]
        rows, columns = window
        x, y = rays.x[columns], rays.y[rows, None]
        turn = rays.rotation / radii[:, None]
        origin = (rays.origin - centre) / radii
        outside = origin @ origin - 1
        if outside <= 0:
            continue
        sight = [(turn[a, 0] * x + (turn[a, 1] * y + turn[a, 2])).astype(np.float32) for a in range(3)]
        square = sight[0] ** 2 + sight[1] ** 2 + sight[2] ** 2
        half = -(origin[0] * sight[0] + origin[1] * sight[1] + origin[2] * sight[2])
        room = half**2 - square * outside
        # of the two roots the nearer one, in the form that gives the inverse depth
        nearest = (half + np.sqrt(np.maximum(room, 0))) / outside
        met = (room > 0) & (half > 0) & (nearest > inverse[window])
        inverse[window][met] = nearest[met]
        surface[window][met] = start + number
