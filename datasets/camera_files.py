"""The files in which people have their cameras, told apart by content; pixels as `datasets.cameras` has them."""

import json
import re

import numpy as np

from datasets.cameras import NAMES, Camera
from system.errors import UserError
from system.files import read_text

FORMS = ("JSON with width, height, fx, fy, cx, cy; a 3x3 text file; ROS camera_info or OpenCV YAML; "
         "COLMAP cameras.txt; KITTI calib_cam_to_cam.txt or calib.txt")  # fmt: skip


def read_camera(path):
    """Read a camera file of any of the forms in `FORMS`, told apart by their content.

    Raises:
        UserError: the file is missing, in another form, or of a camera that is no pinhole with Brown's distortion.
    """
    text = read_text(path, ("a camera file that is not text", f"give {FORMS}"), size=1 << 20)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    try:
        if text.lstrip().startswith("{"):
            return _from_json(json.loads(text))
        if any(re.match(r"\d+\s+[A-Z][A-Z_]+\s+\d+\s+\d+\s", line) for line in lines):
            return _from_colmap(lines)
        if re.search(r"^P(_rect_0)?2:", text, re.MULTILINE):
            return _from_kitti(dict(line.split(":", 1) for line in lines if ":" in line))
        if "camera_matrix" in text or text.startswith("%YAML") or re.search(r"^[A-Za-z_]\w*:", text, re.MULTILINE):
            return _from_yaml(text)
        return _from_matrix([float(word) for line in lines for word in line.replace(",", " ").split()])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError("not a camera file", f"{path}: {' '.join(reason.split())[:150]}", f"give {FORMS}") from None


def _from_json(values):
    size = {name: _size(values[name]) for name in ("width", "height")}
    baseline = values.get("baseline")
    numbers = {name: float(values[name]) for name in NAMES}
    return Camera(
        **numbers,
        **size,
        distortion=_brown(values.get("distortion") or ()),
        baseline=None if baseline is None else float(baseline),
    )


def _from_matrix(numbers, width=None, height=None, distortion=()):
    if len(numbers) != 9:
        raise ValueError(f"{len(numbers)} numbers instead of 3x3")
    K = np.array(numbers, dtype=np.float64).reshape(3, 3)
    if K[2].tolist() != [0, 0, 1] or K[1, 0] != 0:
        raise ValueError("the matrix is not [fx 0 cx; 0 fy cy; 0 0 1]")
    if abs(K[0, 1]) > 1e-3 * abs(K[0, 0]):
        raise ValueError("the matrix has skew")
    return Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height, distortion)


_COLMAP = {  # model: positions of fx, fy, cx, cy among its parameters, number of distortion parameters
    "SIMPLE_PINHOLE": (0, 0, 1, 2, 0),
    "PINHOLE": (0, 1, 2, 3, 0),
    "SIMPLE_RADIAL": (0, 0, 1, 2, 1),
    "RADIAL": (0, 0, 1, 2, 2),
    "OPENCV": (0, 1, 2, 3, 4),
}


def _from_colmap(lines):
    found = set()
    for line in lines:
        _, model, width, height, *parameters = line.split()
        if model not in _COLMAP:
            raise ValueError(f"the model {model}, known are {', '.join(_COLMAP)}")
        fx, fy, cx, cy, terms = _COLMAP[model]
        p = [float(word) for word in parameters]
        if len(p) != cy + 1 + terms:
            raise ValueError(f"{len(p)} parameters for {model}")
        found.add(
            Camera(p[fx], p[fy], p[cx] - 0.5, p[cy] - 0.5, _size(width), _size(height), _brown(p[cy + 1 :], True))
        )
    if len(found) > 1:
        raise ValueError(f"{len(found)} different cameras, leave the line of one")
    return found.pop()


def _from_kitti(entries):
    name = "P_rect_02" if "P_rect_02" in entries else "P2"
    P = np.array([float(word) for word in entries[name].split()]).reshape(3, 4)
    size = entries.get("S_rect_02", "").split()
    width, height = (int(float(word)) for word in size) if size else (None, None)
    return Camera(P[0, 0], P[1, 1], P[0, 2], P[1, 2], width, height)


def _from_yaml(text):
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads OpenCV's matrices as the mappings that they are."""

    Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, True))
    try:
        values = yaml.load(re.sub(r"^%YAML[ :].*\n", "", text), Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"broken YAML: {error}") from None

    def first(*names):
        for name in names:
            if name in values:
                value = values[name]
                return value["data"] if isinstance(value, dict) and "data" in value else value
        return None

    if not isinstance(values, dict):
        raise ValueError("no entries")
    K = first("camera_matrix", "Camera_Matrix", "cameraMatrix", "camera_matrix_left", "K", "k", "M1")
    if K is None:
        raise KeyError("camera_matrix")
    model = str(values.get("distortion_model", "plumb_bob"))
    D = first("distortion_coefficients", "Distortion_Coefficients", "distCoeffs", "dist_coeffs", "D", "d", "D1") or ()
    if model not in ("plumb_bob", "rational_polynomial", "none", "") and any(map(float, np.ravel(D))):
        raise ValueError(f"the distortion model {model}, known is plumb_bob")
    size = first("image_size") or (first("image_width", "image_Width", "width"), first("image_height", "height"))
    width, height = (None if value is None else _size(value) for value in size)
    return _from_matrix(np.ravel(K).astype(float).tolist(), width, height, _brown(np.ravel(D).tolist()))


def _brown(coefficients, radial_first=False):
    """Return (k1, k2, p1, p2, k3), () where all are 0; `radial_first`: one or two numbers are k1, k2 (COLMAP)."""
    numbers = [float(value) for value in coefficients]
    if any(numbers[5:]):
        raise ValueError("more than five distortion coefficients, known are k1 k2 p1 p2 k3")
    if numbers and len(numbers) < 4 and not radial_first:
        raise ValueError(f"{len(numbers)} distortion coefficients, give k1 k2 p1 p2 k3")
    return tuple((numbers + [0.0] * 5)[:5]) if any(numbers) else ()


def _size(value):
    if float(value) != int(float(value)) or int(float(value)) < 1:
        raise ValueError(f"a size of {value} pixels")
    return int(float(value))
