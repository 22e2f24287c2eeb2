"""Shapes of a world: convex six-sided blocks (boxes, tapered roofs and cabins) and ellipsoids (foliage)."""

import numpy as np

# Corners of a block: the bottom's, then the top's, counted around; each side is (bottom left, bottom right, top right,
# top left) as seen from outside.
_SIDES = {"left": (0, 1, 5, 4), "front": (1, 2, 6, 5), "right": (2, 3, 7, 6), "back": (3, 0, 4, 7), "top": (4, 5, 6, 7)}
_SIDES["under"] = (0, 3, 2, 1)


class Solids:
    """Growing tables of blocks' faces and of ellipsoids; `freeze` turns them into arrays.

    After `freeze`: `normal` (F, 3) and `reach` (F,) describe the plane n.P = reach of every face, `axis_u`, `axis_v`
    (F, 3) and `origin` (F, 2) map a point to texels, `texture` and `light` (F,) dress it; `blocks` lists (first face,
    last face + 1), `corners` is (B, 8, 3); `balls` holds `centre`, `radii` (E, 3), `ball_texture`, `ball_phase` (E,).
    """

    def __init__(self, textures, sun):
        self._textures, self._sun = textures, sun
        self._faces, self._corners, self.blocks, self._balls = [], [], [], []

    def block(self, place, heading, length, width, bottom, top, skins, taper=(0.0, 0.0, 0.0)):
        """Add a block standing upright.

        Args:
            place: (x, z) of its middle.
            heading: angle of its long axis from +z towards +x, radians.
            length, width: full extents along and across the heading.
            bottom, top: heights above the road.
            skins: texture number per side name: "left" (towards -x at heading 0), "front", "right", "back", "top" (worn
                underneath, too).
            taper: how much the top is pulled in at the front, at the back and on either flank.
        """
        along = np.array([np.sin(heading), 0, np.cos(heading)])
        across = np.array([np.cos(heading), 0, -np.sin(heading)])
        middle = np.array([place[0], 0, place[1]])
        front, back, flank = taper
        ends = ((-length / 2, -width / 2), (length / 2, -width / 2), (length / 2, width / 2), (-length / 2, width / 2))
        pulls = ((back, flank), (-front, flank), (-front, -flank), (back, -flank))
        low = [middle + a * along + b * across - (0, bottom, 0) for a, b in ends]
        high = [
            middle + (a + pa) * along + (b + pb) * across - (0, top, 0)
            for (a, b), (pa, pb) in zip(ends, pulls, strict=True)
        ]
        corners = np.array(low + high)
        first = len(self._faces)
        for name, order in _SIDES.items():
            skin = skins["top" if name == "under" else name]
            self._faces.append(self._face(corners[list(order)], corners.mean(0), skin))
        self.blocks.append((first, len(self._faces)))
        self._corners.append(corners)

    def _face(self, quad, inside, texture):
        across = quad[1] - quad[0]
        length = np.linalg.norm(across)
        across = across / length
        rise = (quad[2] + quad[3] - quad[0] - quad[1]) / 2
        rise = rise - across * (rise @ across)
        height = np.linalg.norm(rise)
        rise = rise / height
        normal = np.cross(across, rise)
        if normal @ (quad[0] - inside) < 0:
            normal = -normal
        wide, high = self._textures.size(texture)
        axis_u, axis_v = across * (wide / length), -rise * (high / height)
        origin = (-quad[0] @ axis_u, high - quad[0] @ axis_v)
        return normal, normal @ quad[0], axis_u, axis_v, origin, texture, self.lambert(normal)

    def lambert(self, normal):
        """Brightness factor of surfaces with the given unit normals (..., 3), under sky and sun."""
        return 0.66 - 0.1 * normal[..., 1] + 0.42 * np.maximum(normal @ self._sun, 0)

    def ball(self, centre, radii, texture, phase):
        """Add an axis-aligned ellipsoid; `phase` in [0, 1) shifts its texture."""
        self._balls.append((centre, radii, texture, phase))

    def freeze(self):
        """Turn the lists into arrays (float32 but for the integers)."""
        columns = list(zip(*self._faces, strict=True))
        names = ("normal", "reach", "axis_u", "axis_v", "origin", "texture", "light")
        for name, column in zip(names, columns, strict=True):
            setattr(self, name, np.array(column, np.int32 if name == "texture" else np.float64))
        self.corners = np.array(self._corners)
        balls = list(zip(*self._balls, strict=True)) if self._balls else ([], [], [], [])
        self.centre, self.radii = (np.array(part, np.float64).reshape(-1, 3) for part in balls[:2])
        self.ball_texture, self.ball_phase = np.array(balls[2], np.int32), np.array(balls[3], np.float64)
        self._faces = self._corners = self._balls = None
