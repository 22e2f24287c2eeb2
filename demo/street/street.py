"""A whole world: a bending road lined with houses, walls, hedges, trees, lamps and parked cars, drawn from a seed."""

import numpy as np

from . import ground, paint
from .road import Road
from .solids import Solids
from .textures import TextureStore

SUN = np.array([-0.45, -0.75, -0.5]) / np.linalg.norm([-0.45, -0.75, -0.5])  # towards the sun: left, high, behind
BEHIND, AHEAD = 12.0, 130.0  # metres of street built behind the start and beyond the end of the drive
HALF_WIDTH = 4.7  # of the road, parking bays included
KERB_HEIGHT = 0.12


class Street:
    """All a ray can meet, and what it looks like.

    Args:
        seed: of everything drawn; the same seed gives the same world.
        length: metres of road that the camera will drive along, from arc length 0.
    """

    half_width, kerb_height = HALF_WIDTH, KERB_HEIGHT

    def __init__(self, seed, length):
        self._rng = rng = np.random.default_rng([77, seed])
        self.road = Road(rng, -BEHIND, length + AHEAD)
        self.textures = TextureStore()
        self.solids = Solids(self.textures, SUN)
        self._start, self._end = -BEHIND, length + AHEAD
        self._shadows = []
        self._wardrobe()
        for side in (-1, 1):
            self._houses(side)
            self._background(side)
            self._parked(side)
            self._furniture(side)
        self._closing()
        self.ground_start = self._start - 4
        picture = ground.paint(rng, self.ground_start, self._end + 40, HALF_WIDTH, self._shadows)
        self.ground_texture = self.textures.add(picture)
        self.sky_texture = self.textures.add(paint.sky(rng))
        self.textures.freeze()
        self.solids.freeze()
        del self._shadows

    def _wardrobe(self):
        """Textures that several things wear."""
        rng, add = self._rng, self.textures.add
        self._roofs = [add(paint.roof(rng)) for _ in range(4)]
        colours = [paint.pick(rng, paint.WALLS) for _ in range(6)]
        self._walls = [add(paint.facade(rng, 8, 9, colour, blind=True)) for colour in colours]
        self._far = [add(paint.facade(rng, 11, 16, paint.pick(rng, paint.WALLS))) for _ in range(6)]
        greens = [(0.30, 0.42, 0.16), (0.24, 0.36, 0.18), (0.40, 0.44, 0.16), (0.34, 0.38, 0.20)]
        self._leaves = [add(paint.leaves(rng, paint.pick(rng, greens))) for _ in range(5)]
        self._hedges = [add(paint.plain(rng, 1.6, 6, paint.pick(rng, greens), 25, 0.3, 1.0, 0.08)) for _ in range(3)]
        self._fences = [add(paint.plain(rng, 1.6, 6, paint.pick(rng, paint.WALLS), 25, 0.15)) for _ in range(4)]
        self._bark = add(paint.plain(rng, 3, 1, (0.30, 0.24, 0.18), 30, 0.25, 0.6))
        self._steel = [add(paint.plain(rng, 5, 0.5, colour, 20, 0.1)) for colour in ((0.42,) * 3, (0.2, 0.26, 0.24))]
        self._bins = [add(paint.plain(rng, 1, 1, paint.pick(rng, paint.PAINTS), 30, 0.15, 0.5)) for _ in range(5)]
        self._signs = [add(np.full((8, 8, 3), c)) for c in ((0.8, 0.15, 0.1), (0.1, 0.25, 0.65), (0.85, 0.85, 0.8))]
        self._cars = [self._car_clothes(paint.pick(rng, paint.PAINTS)) for _ in range(8)]
        self._vans = [self._van_clothes(paint.pick(rng, paint.PAINTS)) for _ in range(3)]

    def _car_clothes(self, colour):
        rng, add = self._rng, self.textures.add
        flank, nose, tail = paint.car_side(rng, colour), *(paint.car_end(rng, colour, front) for front in (True, False))
        pane, screen = paint.car_glass(rng, colour, True), add(paint.car_glass(rng, colour, False))
        lid = add(paint.plain(rng, 1, 1, colour * 1.02, 20, 0.04, 1.0, 0.3))
        body = {"right": add(flank[:, ::-1]), "left": add(flank), "front": add(nose), "back": add(tail), "top": lid}
        cabin = {"right": add(pane[:, ::-1]), "left": add(pane), "front": screen, "back": screen, "top": lid}
        return body, cabin

    def _van_clothes(self, colour):
        rng, add = self._rng, self.textures.add
        flank = paint.van_side(rng, colour)
        nose, tail = add(paint.van_end(rng, colour, True)), add(paint.van_end(rng, colour, False))
        lid = add(paint.plain(rng, 1, 1, colour, 20, 0.04, 1.0, 0.3))
        return {"right": add(flank[:, ::-1]), "left": add(flank), "front": nose, "back": tail, "top": lid}

    def _choose(self, options):
        return options[self._rng.integers(len(options))]

    def _put(self, s, d, length, width, bottom, top, skins, taper=(0.0, 0.0, 0.0), turn=0.0):
        place, heading = self.road.place(s, d)
        if not isinstance(skins, dict):
            skins = dict.fromkeys(("left", "front", "right", "back", "top"), skins)
        self.solids.block(place, heading + turn, length, width, bottom, top, skins, taper)

    def _houses(self, side):
        """The first row: houses of various depth behind the pavement, now and then a gap with a low wall or a hedge."""
        rng = self._rng
        s, setback = self._start, 2.6
        while s < self._end:
            if rng.random() < 0.3:
                gap = rng.uniform(3.5, 10)
                self._gap(side, s, gap)
                s += gap
            if rng.random() < 0.6:
                setback = self._choose((2.5, 2.5, 3.0, 4.0, 5.5, 7.5)) + rng.uniform(0, 0.4)
            length, height, deep = rng.uniform(5, 13), rng.uniform(3.2, 10.5), rng.uniform(7, 9)
            colour = paint.pick(rng, paint.WALLS)
            front, flank = self.textures.add(paint.facade(rng, height, length, colour)), self._choose(self._walls)
            skins = {"left": front, "right": front, "front": flank, "back": flank, "top": self._choose(self._roofs)}
            middle = side * (HALF_WIDTH + setback + deep / 2)
            self._put(s + length / 2, middle, length - 0.05, deep, 0, height, skins)
            if rng.random() < 0.7:
                cap = dict.fromkeys(skins, skins["top"]) | {"front": flank, "back": flank}
                rise = rng.uniform(1.2, 2.6)
                taper = 0, 0, deep / 2 - 0.2
                self._put(s + length / 2, middle, length, deep + 0.5, height, height + rise, cap, taper)
            self._shadows.append((s + length / 2, middle, length / 2, deep / 2, 0.5, 0.45))
            if setback > 5 and rng.random() < 0.6:
                self._gap(side, s + 0.5, length - 1, trees=1)
            s += length

    def _gap(self, side, s, length, trees=2):
        rng = self._rng
        d, height = side * (HALF_WIDTH + 2.7), rng.uniform(0.6, 1.9)
        if rng.random() < 0.8 and length > 1.5:
            self._put(s + length / 2, d, length - 0.8, 0.4, 0, height, self._choose(self._hedges + self._fences))
            self._shadows.append((s + length / 2, d, length / 2, 0.2, 0.4, 0.4))
        for _ in range(trees):
            if rng.random() < 0.7:
                self._tree(s + rng.uniform(0.3, 0.7) * length, d + side * rng.uniform(1.2, 2.0), rng.uniform(0.7, 1.2))

    def _background(self, side):
        """A second row, seen through the gaps."""
        rng, s = self._rng, self._start
        while s < self._end + 30:
            length, height = rng.uniform(9, 18), rng.uniform(6, 13)
            skin = self._choose(self._far)
            skins = dict.fromkeys(("left", "right", "front", "back"), skin) | {"top": self._choose(self._roofs)}
            self._put(s + length / 2, side * rng.uniform(22, 30), length * 0.92, 8, 0, height, skins)
            s += length

    def _parked(self, side):
        rng = self._rng
        s = self._start + rng.uniform(0, 5)
        while s < self._end - 5:
            if rng.random() < 0.45:
                s += rng.uniform(3, 12)
            d = side * (HALF_WIDTH - 1.05 + rng.normal(0, 0.06))
            turn = (0 if side > 0 else np.pi) + rng.normal(0, 0.015)
            van = rng.random() < 0.15
            length = 5.0 if van else rng.uniform(3.8, 4.6)
            (self._van if van else self._car)(s + length / 2, d, length, turn)
            self._shadows.append((s + length / 2, d, length / 2 - 0.1, 0.75, 0.35, 0.72))
            s += length + rng.uniform(0.7, 1.8)

    def _car(self, s, d, length, turn):
        rng = self._rng
        body, cabin = self._choose(self._cars)
        belt, top = rng.uniform(0.82, 0.92), rng.uniform(1.38, 1.6)
        self._put(s, d, length, 1.72, 0, belt, body, (0.12, 0.06, 0.06), turn)
        (x, z), heading = self.road.place(s, d)
        boot = rng.choice([0.1, 0.35])
        shift = -0.12 * length + boot
        place = x + shift * np.sin(heading + turn), z + shift * np.cos(heading + turn)
        self.solids.block(
            place, heading + turn, length * 0.74 - boot, 1.6, belt, top, cabin, (0.65, 0.3 + boot * 0.6, 0.2)
        )

    def _van(self, s, d, length, turn):
        skins = self._choose(self._vans)
        self._put(s, d, length, 1.85, 0, self._rng.uniform(2.0, 2.3), skins, (0.35, 0.04, 0.08), turn)

    def _furniture(self, side):
        """Lamps, signs, trees, bins and cabinets on the pavement."""
        rng = self._rng
        s = self._start + rng.uniform(2, 10)
        while s < self._end:
            kind = rng.random()
            d = side * (HALF_WIDTH + 0.55)
            if kind < 0.3:
                self._put(s, d, 0.16, 0.16, 0, rng.uniform(4.5, 6.5), self._choose(self._steel))
                self._put(s, d - side * 0.8, 0.14, 1.7, 5.0, 5.15, self._choose(self._steel))
            elif kind < 0.6:
                self._tree(s, d + side * 0.2, rng.uniform(0.8, 1.1))
            elif kind < 0.75:
                self._put(s, d, 0.08, 0.08, 0, 2.9, self._steel[0])
                self._put(s - 0.06, d, 0.05, 0.62, 2.1, 2.8, self._choose(self._signs))
            else:
                size = rng.uniform(0.5, 0.9)
                self._put(s, d + side * 0.2, size, size, 0, rng.uniform(0.8, 1.5), self._choose(self._bins))
                self._shadows.append((s, d + side * 0.2, size / 2, size / 2, 0.25, 0.5))
            s += rng.uniform(3.5, 11)

    def _tree(self, s, d, size):
        rng = self._rng
        trunk = rng.uniform(1.9, 2.6) * size
        self._put(s, d, 0.3 * size, 0.3 * size, 0, trunk + 0.6, self._bark, (0.04,) * 3)
        (x, z), _ = self.road.place(s, d)
        skin = self._choose(self._leaves)
        for _ in range(4):
            radius = rng.uniform(0.8, 1.25) * size
            lift = trunk + rng.uniform(0.5, 1.9) * size
            centre = (x + rng.normal(0, 0.5) * size, -lift, z + rng.normal(0, 0.5) * size)
            self.solids.ball(centre, (radius, radius * rng.uniform(0.75, 1), radius), skin, rng.random())
        self._shadows.append((s + 0.5, d + 0.4, 0.3, 0.3, 1.3 * size, 0.4))

    def _closing(self):
        """Houses across the far end, so that the street does not run into nothing."""
        for d in (-24, -8, 8, 24):
            skins = dict.fromkeys(("left", "right", "front", "back"), self._choose(self._far))
            skins["top"] = self._choose(self._roofs)
            self._put(self._end + 8, d, 10, 16, 0, self._rng.uniform(8, 14), skins)
