"""KITTI raw in miniature, as archives on a server: three drives of two days, with more in them than anybody needs."""

import io
import zipfile

import numpy as np
from PIL import Image

SIZE = (64, 24)  # width, height
DRIVES = {"2011_09_26_drive_0001": 6, "2011_09_26_drive_0002": 4, "2011_09_28_drive_0001": 5}
TRAIN, TEST, OTHER = (f"{drive[:10]}/{drive}_sync" for drive in DRIVES)
CAMERA = """calib_time: 09-Jan-2012 13:57:47
S_rect_02: 6.400000e+01 2.400000e+01
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_02: 40 0 32 0 0 40 12 0 0 0 1 0
P_rect_03: 40 0 32 -20 0 40 12 0 0 0 1 0
"""
VELODYNE = "calib_time: 15-Mar-2012 11:37:16\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n"


def png(frame, camera):
    """Return a PNG's bytes: smooth colour that depends on frame and camera."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    image = np.stack([128 + 100 * np.sin(x / 9 + frame), 128 + 90 * np.cos(y / 5 + camera), 2 * x + y], -1)
    buffer = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def scan(frame):
    """Return a LiDAR scan's bytes: a wall in front of the car."""
    y, z = np.meshgrid(np.linspace(-6, 6, 40), np.linspace(-2, 2, 12))
    points = np.stack([np.full_like(y, 10 + frame), y, z, np.ones_like(y)], -1)
    return points.reshape(-1, 4).astype(np.float32).tobytes()


def drive_archive(drive, count):
    """Return the bytes of a drive's archive, with grey cameras and GPS that nobody unpacks."""
    top = f"{drive[:10]}/{drive}_sync"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}/", b"")
        for frame in range(count):
            for camera in range(4):
                archive.writestr(f"{top}/image_0{camera}/data/{frame:010d}.png", png(frame, camera))
            archive.writestr(f"{top}/velodyne_points/data/{frame:010d}.bin", scan(frame))
            archive.writestr(f"{top}/oxts/data/{frame:010d}.txt", b"0 0 0\n")
        archive.writestr(f"{top}/image_02/timestamps.txt", b"then\n" * count)
    return buffer.getvalue()


def calibration_archive(date):
    """Return the bytes of a day's calibration archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{date}/calib_cam_to_cam.txt", CAMERA)
        archive.writestr(f"{date}/calib_velo_to_cam.txt", VELODYNE)
        archive.writestr(f"{date}/calib_imu_to_velo.txt", VELODYNE)
    return buffer.getvalue()


def server_files():
    """Return {path: bytes} of the whole server."""
    served = {f"/{drive}/{drive}_sync.zip": drive_archive(drive, count) for drive, count in DRIVES.items()}
    return served | {f"/{date}_calib.zip": calibration_archive(date) for date in {name[:10] for name in DRIVES}}


def write_split(folder):
    """Write lists over the three drives: neighbours reach the ends of a drive and beyond."""
    folder.mkdir(parents=True, exist_ok=True)
    train = [f"{TRAIN} {frame} {side}" for frame in (1, 2, 5) for side in "lr"]
    (folder / "train_files.txt").write_text("\n".join(train) + "\n")
    (folder / "val_files.txt").write_text(f"{OTHER} 1 l\n")
    (folder / "test_files.txt").write_text(f"{TEST} 0000000001 l\n{TEST} 0000000003 l\n")
    return folder
