"""The stereo rig: KITTI-like intrinsics at any picture size, and the calibration files that go with it."""

import dataclasses

import numpy as np

FOCAL, CENTRE = (0.58, 1.92), (0.5, 0.5)  # the normalised intrinsics that KITTI training items carry
BASELINE = 0.54  # metres between image_02 (left) and image_03 (right), as on KITTI's car
HEIGHT = 1.65  # of the cameras above the road
SCANNER_ABOVE = 0.08  # metres from the left camera up to the laser scanner; none forwards: both depths agree

# KITTI's devkit counts pixels from 1 (it rounds projections and subtracts 1), so P_rect of the files written here
# points at pixels counted from 1; a laser point then lands in exactly the pixel whose ray it was measured on.
FIRST_PIXEL = 1


@dataclasses.dataclass(frozen=True)
class Rig:
    """Two parallel pinhole cameras of `width` x `height` pixels; pixel centres are integers from 0."""

    width: int
    height: int

    @property
    def focal(self):
        return FOCAL[0] * self.width, FOCAL[1] * self.height

    @property
    def centre(self):
        return CENTRE[0] * self.width, CENTRE[1] * self.height

    def intrinsics(self):
        """K, (3, 3) float64, for pixels counted from 0."""
        (fx, fy), (cx, cy) = self.focal, self.centre
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    def calibration(self):
        """Text of calib_cam_to_cam.txt: camera 0 coincides with 2, camera 1 with 3, all are rectified."""
        intrinsics = self.intrinsics()
        intrinsics[:2, 2] += FIRST_PIXEL
        lines = ["calib_time: 01-Jan-2000 00:00:00", "corner_dist: 9.950000e-02"]
        for camera in range(4):
            shift = -BASELINE if camera % 2 else 0.0
            offset = np.array([shift, 0, 0])
            entries = {
                "S": (self.width, self.height),
                "K": intrinsics,
                "D": np.zeros(5),
                "R": np.eye(3),
                "T": offset,
                "S_rect": (self.width, self.height),
                "R_rect": np.eye(3),
                "P_rect": np.column_stack([intrinsics, intrinsics @ offset]),
            }
            for name, values in entries.items():
                prefix, _, rest = name.partition("_")
                key = f"{prefix}_{rest}_{camera:02d}" if rest else f"{prefix}_{camera:02d}"
                lines.append(f"{key}: {_numbers(values)}")
        return "\n".join(lines) + "\n"


# Scanner axes (x forward, y left, z up) to camera axes (x right, y down, z forward).
CAMERA_R_SCANNER = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
CAMERA_T_SCANNER = np.array([0.0, -SCANNER_ABOVE, 0.0])


def scanner_calibration():
    """Text of calib_velo_to_cam.txt."""
    rows = ["calib_time: 01-Jan-2000 00:00:00", f"R: {_numbers(CAMERA_R_SCANNER)}", f"T: {_numbers(CAMERA_T_SCANNER)}"]
    return "\n".join([*rows, "delta_f: 0 0", "delta_c: 0 0"]) + "\n"


def _numbers(values):
    return " ".join(f"{value:.12e}" for value in np.ravel(values))


def pose(place, heading, pitch=0.0, height=HEIGHT):
    """World-from-camera transform, (4, 4) float64, for a camera over `place` (x, z), looking along `heading`.

    Args:
        heading: from +z towards +x, radians.
        pitch: upwards, radians.
    """
    sin_h, cos_h, sin_p, cos_p = np.sin(heading), np.cos(heading), np.sin(pitch), np.cos(pitch)
    forward = np.array([sin_h * cos_p, -sin_p, cos_h * cos_p])
    right = np.array([cos_h, 0, -sin_h])
    transform = np.eye(4)
    transform[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    transform[:3, 3] = place[0], -height, place[1]
    return transform


def right_camera(world_from_left):
    """World-from-camera transform of the right camera of the pair."""
    transform = world_from_left.copy()
    transform[:3, 3] += BASELINE * transform[:3, 0]
    return transform
