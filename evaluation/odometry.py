"""Errors of a predicted trajectory: Monodepth2's 5-frame ATE, Sim(3)-aligned ATE, and KITTI's relative errors.

Trajectories as in `datasets.trajectories`: world_T_camera (n, 4, 4), metres. Monocular video leaves the scale open:
each error says how it is fixed. Free of torch.

Sources: Zhou et al., CVPR 2017, and Godard et al., ICCV 2019 (5-frame ATE); Umeyama, PAMI 1991 (Sim(3)); Geiger et al.,
CVPR 2012, and KITTI's odometry devkit (t_rel, r_rel); Sturm et al., IROS 2012 (RPE).
"""

from typing import NamedTuple

import numpy as np

from datasets.trajectories import inverse, motions_of, travelled

TRACK = 5  # points of a snippet
LENGTHS = (100, 200, 300, 400, 500, 600, 700, 800)  # metres of KITTI's segments
SEGMENT_STEP = 10  # frames from the start of one segment to the next


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, poses):
        """Return a trajectory moved, turned and scaled."""
        moved = poses.copy()
        moved[:, :3, :3] = self.rotation @ poses[:, :3, :3]
        moved[:, :3, 3] = self.scale * poses[:, :3, 3] @ self.rotation.T + self.translation
        return moved


def errors(truth, predicted, lengths=LENGTHS, scaled=True):
    """Return every figure of a prediction.

    Args:
        truth, predicted: trajectories of the same frames.
        lengths: of the segments behind t_rel and r_rel, metres.
        scaled: whether t_rel and rpe_trans are taken after scaling the prediction by its Sim(3) alignment; without,
            they are those of a metric prediction. ate_5 and ate_sim3 fix their own scale in any case.

    Returns:
        A dict of floats: ate_5_mean, ate_5_std (m), ate_sim3_rmse (m), t_rel (percent), r_rel (degrees per 100 m; both
        None where the way is shorter than every segment), rpe_trans (m), rpe_rot (degrees; both root mean squares from
        frame to frame), sim3_scale, length (m, of the truth), frames.

    Raises:
        ValueError: the trajectories differ in length.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"{len(predicted)} predicted poses for {len(truth)} true ones")
    snippets = snippet_errors(motions_of(truth), motions_of(predicted))
    alignment = align(truth[:, :3, 3], predicted[:, :3, 3])
    metric = predicted.copy()
    metric[:, :3, 3] *= alignment.scale if scaled else 1.0
    t_rel, r_rel = segment_errors(truth, metric, lengths)
    rpe_trans, rpe_rot = relative_pose_errors(truth, metric)
    return {
        "ate_5_mean": float(snippets.mean()),
        "ate_5_std": float(snippets.std()),
        "ate_sim3_rmse": root_mean_square(alignment.apply(predicted)[:, :3, 3] - truth[:, :3, 3]),
        "t_rel": t_rel,
        "r_rel": r_rel,
        "rpe_trans": rpe_trans,
        "rpe_rot": rpe_rot,
        "sim3_scale": float(alignment.scale),
        "length": float(travelled(truth)[-1]),
        "frames": len(truth),
    }


def snippet_errors(true_motions, predicted_motions, track=TRACK):
    """Return the absolute trajectory error of every snippet, (n - 1,) metres.

    A snippet from frame i has the points x_0 = 0 and x_k = translation of T_i T_(i+1) ... T_(i+k-1), k < track; those
    at the end are shorter. One scale a snippet, s = sum(g p) / sum(p p); the error is sqrt(sum |s p - g|^2) / points.
    A prediction that stands still has the error of standing still.

    Args:
        true_motions, predicted_motions: T_(i+1)_i, (n - 1, 4, 4).
    """
    results = np.empty(len(true_motions))
    for start in range(len(true_motions)):
        truth = _points(true_motions[start : start + track - 1])
        predicted = _points(predicted_motions[start : start + track - 1])
        power = np.sum(predicted**2)
        scale = np.sum(truth * predicted) / power if power else 0.0
        results[start] = np.sqrt(np.sum((scale * predicted - truth) ** 2)) / len(truth)
    return results


def _points(motions):
    pose, points = np.eye(4), [np.zeros(3)]
    for motion in motions:
        pose = pose @ motion
        points.append(pose[:3, 3])
    return np.array(points)


def align(truth, predicted):
    """Return the `Similarity` that moves points (n, 3) onto the true ones with the least square error.

    Umeyama 1991, equations 38 to 43. Points that all coincide get the scale 0: no scale brings them closer.
    """
    true_mean, predicted_mean = truth.mean(0), predicted.mean(0)
    centred = predicted - predicted_mean
    variance = np.mean(np.sum(centred**2, 1))
    u, strengths, vt = np.linalg.svd((truth - true_mean).T @ centred / len(truth))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float(strengths @ signs / variance) if variance else 0.0
    return Similarity(scale, rotation, true_mean - scale * rotation @ predicted_mean)


def segment_errors(truth, predicted, lengths=LENGTHS):
    """Return (t_rel in percent, r_rel in degrees per 100 m) over KITTI's segments; (None, None) if there is none.

    A segment starts at every tenth frame and ends at the first frame whose way from the start exceeds the length.
    """
    way = travelled(truth)
    starts, ends, metres = [], [], []
    for start in range(0, len(truth), SEGMENT_STEP):
        for length in lengths:
            end = int(np.searchsorted(way, way[start] + length, side="right"))
            if end < len(truth):
                starts.append(start)
                ends.append(end)
                metres.append(length)
    if not starts:
        return None, None
    moved, turned = _differences(truth, predicted, np.array(starts), np.array(ends))
    metres = np.array(metres, float)
    return float(np.mean(moved / metres) * 100), float(np.mean(turned / metres) * 100)


def relative_pose_errors(truth, predicted, delta=1):
    """Return the root mean squares of the errors over `delta` frames: (metres, degrees)."""
    starts = np.arange(len(truth) - delta)
    return tuple(root_mean_square(each[:, None]) for each in _differences(truth, predicted, starts, starts + delta))


def _differences(truth, predicted, starts, ends):
    """Return what is left between true and predicted motion from `starts` to `ends`: (metres (m,), degrees (m,))."""
    relative = [inverse(poses[starts]) @ poses[ends] for poses in (truth, predicted)]
    left = inverse(relative[1]) @ relative[0]
    # |R - 1| (Frobenius) = 2 sqrt(2) sin(angle / 2): exact for small angles, where the arc cosine of the trace is not
    half = np.linalg.norm(left[:, :3, :3] - np.eye(3), axis=(1, 2)) / (2 * np.sqrt(2))
    return np.linalg.norm(left[:, :3, 3], axis=1), np.degrees(2 * np.arcsin(np.minimum(half, 1)))


def root_mean_square(offsets):
    """Return the root of the mean squared length of vectors (n, d)."""
    return float(np.sqrt(np.mean(np.sum(offsets**2, 1))))
