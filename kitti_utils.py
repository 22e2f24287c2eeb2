"""KITTI's own files: where they lie, calibration texts, LiDAR scans, and scans projected into a camera.

Frames (Geiger et al., IJRR 2013): the velodyne looks along x, with y to the left and z up; a rectified camera looks
along z, with x to the right and y down. Metres and pixels. NumPy only.
"""

import functools
import os

import numpy as np

from system.errors import UserError, from_os_error
from system.files import open_regular

CAMERA_OF_SIDE = {"l": 2, "r": 3}  # KITTI's numbers of its left and right colour cameras
POINT_BYTES = 16  # x, y, z, reflectance as float32
LARGEST_SIDE = 20000  # pixels of an image, far beyond any camera's

# The layout of KITTI raw: <date>/<calibration> and <date>/<date>_drive_<number>_sync/<subfolder>/<frame, ten digits>.
# A "folder" below is the drive's, as split lines name it: 2011_09_26/2011_09_26_drive_0001_sync.
CAMERAS = {side: f"image_0{camera}/data" for side, camera in CAMERA_OF_SIDE.items()}
SCANS = "velodyne_points/data"
MAPS = {side: f"proj_depth/groundtruth/image_0{camera}" for side, camera in CAMERA_OF_SIDE.items()}
CALIBRATION = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")


def frame_path(data_path, folder, subfolder, frame, ending):
    """Return the path of a frame's file in a drive's subfolder: of `CAMERAS`, `MAPS`, or `SCANS`; `ending`: ".jpg"."""
    return os.path.join(data_path, folder, *subfolder.split("/"), f"{frame:010d}{ending}")


def scan_path(data_path, folder, frame):
    """Return the path of a frame's LiDAR scan."""
    return frame_path(data_path, folder, SCANS, frame, ".bin")


def improved_path(data_path, folder, frame, side):
    """Return the path of a frame's improved depth map (Uhrig et al., 3DV 2017)."""
    return frame_path(data_path, folder, MAPS[side], frame, ".png")


def calibration_folder(data_path, folder):
    """Return the folder with the calibration of a drive: that of its day."""
    return os.path.join(data_path, folder.split("/")[0])


def odometry_path(data_path, sequence, frame, side, ending):
    """Return the path of an odometry image: sequences/<two digits>/image_2|3/<six digits>."""
    camera = f"image_{CAMERA_OF_SIDE[side]}"
    return os.path.join(data_path, "sequences", f"{sequence:02d}", camera, f"{frame:06d}{ending}")


def read_calib_file(path):
    """Return the entries of a KITTI calibration text: name -> float64 array, or the text where it is no numbers.

    Raises:
        UserError: the file is missing or is no text.
    """
    entries = {}
    try:
        with open_regular(path, encoding="utf-8") as file:
            for line in file:
                name, colon, value = line.partition(":")
                if colon:
                    entries[name.strip()] = _numbers(value.strip())
    except UnicodeDecodeError:
        raise UserError("a calibration file that is not text", path, "download KITTI's calibration again") from None
    except FileNotFoundError:
        raise UserError("missing calibration file", path, "unpack KITTI's calibration of that day there") from None
    except OSError as error:
        raise from_os_error(error, path) from error
    return entries


def _numbers(text):
    try:
        return np.array([float(word) for word in text.split()])
    except ValueError:
        return text


def load_velodyne_points(filename):
    """Return a scan as (N, 4) float32: x, y, z in metres in the velodyne's frame, then 1.

    Raises:
        UserError: the file is missing, or is cut off inside a point.
    """
    try:
        with open_regular(filename, "rb") as file:
            raw = bytearray(file.read())
    except FileNotFoundError:
        raise UserError("missing LiDAR scan", filename, "unpack the drive's velodyne_points there") from None
    except OSError as error:
        raise from_os_error(error, filename) from error
    if len(raw) % POINT_BYTES:
        which = f"{filename} ({len(raw)} bytes, no multiple of {POINT_BYTES})"
        raise UserError("a truncated LiDAR scan", which, "copy the file again")
    points = np.frombuffer(raw, dtype="<f4").reshape(-1, 4)
    points[:, 3] = 1.0
    return points


def generate_depth_map(calib_dir, velo_filename, cam=2, vel_depth=False):
    """Project a LiDAR scan into a colour camera, exactly as the published Eigen evaluation does.

    Args:
        calib_dir: folder with calib_cam_to_cam.txt and calib_velo_to_cam.txt.
        velo_filename: the scan, a .bin file.
        cam: 2 (left) or 3 (right).
        vel_depth: give the forward distance in the velodyne's frame instead of the depth in the camera's.

    Returns:
        (H, W) float32 at the rectified size, metres, 0 where no point falls.

    Raises:
        UserError: a file is missing, cut off or lacks an entry.
    """
    height, width, P_image_velo = camera_calibration(calib_dir, cam)
    points = load_velodyne_points(velo_filename)
    points = points.take(np.flatnonzero(points[:, 0] >= 0), 0)
    return project_points(points, P_image_velo, height, width, vel_depth)


def camera_calibration(calib_dir, cam=2):
    """Return (height, width, P_image_velo) of a rectified camera; the last is (3, 4), metres to pixels times depth.

    Raises:
        UserError: a calibration file is missing or lacks an entry.
    """
    paths = [os.path.join(calib_dir, name) for name in CALIBRATION]
    try:
        stamps = tuple((s.st_mtime_ns, s.st_size) for s in map(os.stat, paths))
    except OSError:
        stamps = None  # reading says what is wrong
    return _camera_calibration(*paths, cam, stamps)


@functools.lru_cache(maxsize=64)
def _camera_calibration(cameras_path, velo_path, cam, _stamps):
    cameras, velo = read_calib_file(cameras_path), read_calib_file(velo_path)
    # every rectified camera of a day has the size of camera 2
    width, height = _entry(cameras, "S_rect_02", 2, cameras_path).tolist()
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        which = f"{cameras_path}: S_rect_02 is {width:g} {height:g}"
        raise UserError("no image has this size", which, "copy KITTI's calibration of that day again")
    width, height = int(width), int(height)
    T_cam_velo, T_rect_cam = np.eye(4), np.eye(4)
    T_cam_velo[:3, :3] = _entry(velo, "R", 9, velo_path).reshape(3, 3)
    T_cam_velo[:3, 3] = _entry(velo, "T", 3, velo_path)
    T_rect_cam[:3, :3] = _entry(cameras, "R_rect_00", 9, cameras_path).reshape(3, 3)
    P_image_rect = _entry(cameras, f"P_rect_0{cam}", 12, cameras_path).reshape(3, 4)
    return height, width, P_image_rect @ T_rect_cam @ T_cam_velo


def _entry(calibration, name, size, path):
    value = calibration.get(name)
    if not isinstance(value, np.ndarray) or value.size != size or not np.isfinite(value).all():
        raise UserError(f"no entry {name} of {size} numbers", path, "copy KITTI's calibration of that day again")
    return value


def project_points(points, P_image_velo, height, width, vel_depth=False):
    """Return the (height, width) float32 map of projected points (N, 4), 0 where there is none.

    Pixels are rounded coordinates minus 1, as in KITTI's devkit. A pixel takes its last point. After that every key
    row * (width - 1) + column - 1 that was hit more than once gives its least depth to the pixel of its first point;
    the last pixel of a row shares its key with the first of the next. Both habits are the published ground truth's.
    """
    u, v, z = P_image_velo @ points.T
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.rint(u / z) - 1, np.rint(v / z) - 1
        inside = np.flatnonzero((u >= 0) & (v >= 0) & (u < width) & (v < height))
    row, column = v[inside].astype(np.int64), u[inside].astype(np.int64)
    depth = points[inside, 0] if vel_depth else z[inside].astype(np.float32)

    flat = np.zeros(height * width, dtype=np.float32)
    pixel = row * width + column
    flat[pixel] = depth  # of equal indices the last is kept
    key = row * (width - 1) + column  # one more than the published key, so never negative
    again = np.flatnonzero(np.bincount(key, minlength=height * width)[key] > 1)
    key, pixel, depth = key[again], pixel[again], depth[again]
    order = np.lexsort((depth, key))  # one run per key, its least depth first
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    first = np.minimum.reduceat(order, starts) if len(starts) else starts  # positions keep the scan's order
    flat[pixel[first]] = depth[order[starts]]
    return np.maximum(flat, 0).reshape(height, width)
