"""Motion on the synthetic street, where it is known: what the objective leads to, and what trained weights predict."""

import numpy as np
import pytest
import torch

from demo.street import Drive, Rig
from layers import transformation_from_parameters
from losses.objective import Objective, compute_losses, noise_like_identity

UNIT = 10.0  # metres
STEPS = 150
MIDDLE = 3


def angle(one, other):
    """Degrees between two directions."""
    return np.degrees(np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))


def true_motion(poses, source, target):
    """T_source_target from poses world_T_camera."""
    return np.linalg.inv(poses[source]) @ poses[target]


def test_with_true_depth_the_loss_is_least_at_the_true_motion():
    rig = Rig(208, 64)
    drive = Drive(5, 6, rig)

    def image(frame):
        return torch.from_numpy(drive.picture(frame).astype(np.float32) / 255).permute(2, 0, 1)[None]

    depth = torch.from_numpy(np.minimum(drive.depth(MIDDLE), 99.0))[None, None] / UNIT
    disparity = (1 / depth - 1 / 100) / (1 / 0.1 - 1 / 100)
    K = torch.eye(4)
    K[:3, :3] = torch.from_numpy(rig.intrinsics())
    inputs = {("color", frame, 0): image(MIDDLE + frame) for frame in (0, -1, 1)}
    inputs |= {("K", 0): K[None], ("inv_K", 0): torch.linalg.inv(K)[None]}
    objective = Objective(scales=(0,), sources=(-1, 1), automask=False, smoothness=0.0)
    # Predicted as networks do, a hair away from no motion, where a rotation has no axis.
    motions = {frame: [torch.full((1, 1, 3), 1e-4, requires_grad=True) for _ in range(2)] for frame in (-1, 1)}
    optimiser = torch.optim.Adam([each for pair in motions.values() for each in pair], lr=2e-3)
    noise = noise_like_identity(inputs, objective, torch.Generator().manual_seed(0))
    for _ in range(STEPS):
        transforms = {frame: transformation_from_parameters(*pair, frame < 0) for frame, pair in motions.items()}
        outputs = {("disp", 0): disparity} | {("cam_T_cam", 0, frame): each for frame, each in transforms.items()}
        _, losses = compute_losses(inputs, outputs, objective, noise)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    for frame, transform in transforms.items():
        found, truth = transform[0].detach().double().numpy(), true_motion(drive.poses, MIDDLE + frame, MIDDLE)
        step = found[:3, 3] * UNIT
        assert angle(step, truth[:3, 3]) < 2
        assert np.linalg.norm(step) == pytest.approx(np.linalg.norm(truth[:3, 3]), rel=0.05)
        np.testing.assert_allclose(found[:3, :3], truth[:3, :3], atol=8e-4)  # of a turn of 0.0028


def test_trained_weights_predict_the_direction_of_travel(reference):
    """Stored: what lite-mono-tiny with PoseCNN predicts after ten epochs of the demonstration, in a street unseen."""
    predicted = reference("street_motions.npz")["motions"]  # T_(i+1)_i, (79, 3, 4)
    poses = Drive(5, 80, Rig(416, 128)).poses
    angles = [angle(each[:, 3], true_motion(poses, i + 1, i)[:3, 3]) for i, each in enumerate(predicted)]
    assert len(angles) == 79 and (predicted[:, 2, 3] < 0).all()  # what is ahead comes nearer
    assert np.median(angles) < 3 and np.max(angles) < 8
    lengths = [np.linalg.norm(each[:, 3]) / np.linalg.norm(true_motion(poses, i + 1, i)[:3, 3])
               for i, each in enumerate(predicted)]  # fmt: skip
    assert np.std(lengths) / np.mean(lengths) < 0.2  # one unit for all frames
