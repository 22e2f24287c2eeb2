"""A synthetic street, ray-cast in NumPy and written in KITTI raw layout, so that everything runs without a download.

    python -m demo.street --out DIR

Conventions of the whole package: the world has x right, y down, z forward, in metres, with the road surface at y = 0; a
camera has the same axes; depth is the camera's z. Pixel centres have integer coordinates counted from 0, and the
intrinsics are the normalised ones of the KITTI training items (fx 0.58 W, fy 1.92 H, cx 0.5 W, cy 0.5 H).

Rooms, where later ones build on earlier ones: `textures` (noise and the filtered store), `paint` and `ground` (what
surfaces look like), `solids` (shapes), `road` (its course), `street` (a whole drawn world), `camera` (the rig and its
calibration), `raycast` (what every ray meets, and where), `shading` (its colour), `drive` (a world, the path through it
and its frames), `writer` (the folder on disk), `__main__` (the command line).
"""

from system.lazy import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        "Drive": "drive",
        "Rig": "camera",
        "Street": "street",
        "dense_depth": "writer",
        "read_poses": "writer",
        "write_drives": "writer",
    },
)
