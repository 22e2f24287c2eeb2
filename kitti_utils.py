"""KITTI's own files: calibration texts, LiDAR scans, and scans projected into a camera.

Frames (Geiger et al., IJRR 2013): the velodyne looks along x, with y to the left and z up; a rectified camera looks
along z, with x to the right and y down. Metres and pixels. NumPy only.
"""

import functools
import os

import numpy as np

from system.errors import UserError, from_os_error

CAMERA_OF_SIDE = {"l": 2, "r": 3}  # KITTI's numbers of its left and right colour cameras
POINT_BYTES = 16  # x, y, z, reflectance as float32


def read_calib_file(path):
    """Return the entries of a KITTI calibration text: name -> float64 array, or the text where it is no numbers.

    Raises:
        UserError: the file is missing or is no text.
    """
    entries = {}
    try:
        with open(path, encoding="utf-8") as file:
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
        with open(filename, "rb") as file:
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
    paths = [os.path.join(calib_dir, name) for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")]
    try:
        stamps = tuple((s.st_mtime_ns, s.st_size) for s in map(os.stat, paths))
    except OSError:
        stamps = None  # reading says what is wrong
    return _camera_calibration(*paths, cam, stamps)


@functools.lru_cache(maxsize=64)
def _camera_calibration(cameras_path, velo_path, cam, _stamps):
    cameras, velo = read_calib_file(cameras_path), read_calib_file(velo_path)
    # every rectified camera of a day has the size of camera 2
    width, height = _entry(cameras, "S_rect_02", 2, cameras_path).astype(int).tolist()
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
