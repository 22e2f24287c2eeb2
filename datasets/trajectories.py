"""Camera trajectories: KITTI's pose files, and the motions from frame to frame that they stand for.

A trajectory is (n, 4, 4) float64, world_T_camera of every frame in metres: the camera looks along z, with x to the
right and y down. A motion is T_(i+1)_i, (n - 1, 4, 4): it maps points of camera i into camera i + 1, as the pose
networks predict it. Free of torch.
"""

import os

import numpy as np

from system import files
from system.errors import UserError

NUMBERS_A_LINE = 12  # the first three rows of world_T_camera
FARTHEST = 1e9  # metres, beyond which squares and sums would lose everything
ROTATION_TOLERANCE = 0.01  # published files carry seven digits or fewer
POSE_FORM = "a KITTI pose file has twelve numbers a line, three rows of world_T_camera"


def read_poses(path):
    """Return the trajectory of a KITTI pose file (.txt), or of stored motions or poses (.npy, (m, 4, 4)).

    A .npy is taken as m = n - 1 motions T_(i+1)_i, the form in which Monodepth2's evaluation stores its predictions.

    Raises:
        UserError: the file is missing, no such file, or holds something that is no rigid motion (the line is named).
    """
    if os.fspath(path).endswith(".npy"):
        return accumulate(_read_motions(path))
    text = files.read_text(path, ("a pose file that is not text", POSE_FORM), ("no such pose file", "check the path"))
    lines = [line.split() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    poses = np.tile(np.eye(4), (len(lines), 1, 1))
    for number, words in enumerate(lines, 1):
        where = f"{path} line {number}"
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise UserError("a pose that is not numbers", f"{where}: '{' '.join(words)[:80]}'", POSE_FORM) from None
        if len(values) != NUMBERS_A_LINE:
            raise UserError(f"a pose of {len(values)} numbers", where, POSE_FORM)
        poses[number - 1, :3] = np.reshape(values, (3, 4))
    _check(poses, lambda index: f"{path} line {index + 1}")
    if len(poses) < 2:
        raise UserError("a trajectory of fewer than two poses", path, POSE_FORM)
    return poses


def _read_motions(path):
    form = "give motions T_(i+1)_i of shape (n - 1, 4, 4), or a KITTI pose file"
    try:
        with files.open_regular(path, "rb") as file:
            motions = files.read_array(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise UserError("no such pose file", path, "check the path") from None
    except (*files.DAMAGED_ARRAYS, OSError) as error:
        raise UserError("not a plain .npy array", path, form) from error
    if not isinstance(motions, np.ndarray) or motions.ndim != 3 or motions.shape[1:] != (4, 4) or not len(motions):
        raise UserError("the motions have the wrong shape", f"{path}: {getattr(motions, 'shape', 'an archive')}", form)
    if not np.issubdtype(motions.dtype, np.floating):
        raise UserError("the motions are not floats", f"{path}: {motions.dtype}", form)
    motions = motions.astype(np.float64)
    _check(motions, lambda index: f"{path} entry {index}")
    return motions


def _check(poses, name):
    finite = np.isfinite(poses).all((1, 2))
    with np.errstate(all="ignore"):
        near = (np.abs(poses[:, :3, 3]) <= FARTHEST).all(1)
        rotations = poses[:, :3, :3]
        errors = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
        rigid = (errors < ROTATION_TOLERANCE) & (np.linalg.det(np.where(finite[:, None, None], rotations, 0)) > 0)
    for good, what in ((finite, "a pose that is not finite"), (rigid, "a pose whose 3x3 part is no rotation"),
                       (near, f"a pose farther than {FARTHEST:.0e} m")):  # fmt: skip
        if not good.all():
            raise UserError(what, name(int(np.argmin(good))), POSE_FORM)


def write_poses(path, poses):
    """Write a trajectory as a KITTI pose file, whole or not at all."""
    lines = (" ".join(f"{value:.9e}" for value in pose[:3].ravel()) for pose in poses)
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def inverse(poses):
    """Return the inverses of rigid motions (..., 4, 4)."""
    rotation = np.swapaxes(poses[..., :3, :3], -1, -2)
    result = np.zeros_like(poses)
    result[..., :3, :3] = rotation
    result[..., :3, 3] = -(rotation @ poses[..., :3, 3:])[..., 0]
    result[..., 3, 3] = 1
    return result


def motions_of(poses):
    """Return the motions T_(i+1)_i, (n - 1, 4, 4), of a trajectory."""
    return inverse(poses[1:]) @ poses[:-1]


def accumulate(motions):
    """Return the trajectory (n, 4, 4) of motions T_(i+1)_i, its first camera being the world."""
    poses = np.tile(np.eye(4), (len(motions) + 1, 1, 1))
    for index, motion in enumerate(inverse(np.asarray(motions, np.float64))):
        poses[index + 1] = poses[index] @ motion
    return poses


def travelled(poses):
    """Return the way from the first frame to every frame, (n,) metres."""
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    return np.concatenate(([0.0], np.cumsum(steps)))


def straight_line(poses):
    """Return the trajectory of a car that drives as far as this one, at one speed and straight ahead: a baseline."""
    line = np.tile(np.eye(4), (len(poses), 1, 1))
    line[:, 2, 3] = np.linspace(0, travelled(poses)[-1], len(poses))
    return line
