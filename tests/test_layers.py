"""Geometry and similarity: closed forms, derivatives, and the two ways to the same grid."""

import math

import pytest
import torch

import layers
from cpu.photometric_error import PhotometricError, local_sum, local_sum_adjoint
from losses.photometric import SSIM_WEIGHT, photometric_error
from losses.view_synthesis import reprojection_grid

K = torch.tensor([[50.0, 0, 16, 0], [0, 60.0, 12, 0], [0, 0, 1, 0], [0, 0, 0, 1]])[None]
SIZE = (24, 32)


def depth_map(batch=2, seed=0):
    return 2 + 5 * torch.rand(batch, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


def identity_grid():
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    return torch.stack((x, y), -1)[None]


def test_disparity_ends_are_the_depth_limits():
    scaled, depth = layers.disp_to_depth(torch.tensor([0.0, 1.0]), 0.1, 100)
    torch.testing.assert_close(depth, torch.tensor([100.0, 0.1]))
    torch.testing.assert_close(scaled * depth, torch.ones(2))


def test_a_quarter_turn_about_z_sends_x_to_y():
    T = layers.rot_from_axisangle(torch.tensor([[[0, 0, math.pi / 2]]]))
    torch.testing.assert_close(T[0] @ torch.tensor([1.0, 0, 0, 1]), torch.tensor([0.0, 1, 0, 1]), atol=1e-6, rtol=0)


def test_rotation_equals_the_matrix_exponential():
    vector = torch.tensor([[[0.3, -0.2, 0.5]]], dtype=torch.float64)
    x, y, z = vector[0, 0]
    zero = torch.zeros((), dtype=torch.float64)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
    torch.testing.assert_close(
        layers.rot_from_axisangle(vector)[0, :3, :3], torch.linalg.matrix_exp(cross), atol=1e-6, rtol=0
    )


def test_no_turn_is_the_identity_and_has_a_gradient():
    vector = torch.zeros(1, 1, 3, requires_grad=True)
    T = layers.rot_from_axisangle(vector)
    torch.testing.assert_close(T.detach(), torch.eye(4)[None])
    T.sum().backward()
    assert vector.grad.isfinite().all()


def test_translation_stands_in_the_last_column():
    T = layers.get_translation_matrix(torch.tensor([[[1.0, 2, 3]]]))
    torch.testing.assert_close(T[0, :, 3], torch.tensor([1.0, 2, 3, 1]))
    torch.testing.assert_close(T[0, :3, :3], torch.eye(3))


def test_inverted_motion_undoes_the_motion():
    axisangle, translation = torch.tensor([[[0.1, 0.2, -0.3]]]), torch.tensor([[[0.5, -1.0, 2.0]]])
    there = layers.transformation_from_parameters(axisangle, translation)
    back = layers.transformation_from_parameters(axisangle, translation, invert=True)
    torch.testing.assert_close(there @ back, torch.eye(4)[None], atol=1e-6, rtol=0)
    torch.testing.assert_close(there[0, :3, 3], translation[0, 0])  # Trans(t) R: the turn does not touch t


def test_backprojection_of_the_principal_point_lies_straight_ahead():
    points = layers.BackprojectDepth(1, *SIZE)(torch.full((1, 1, *SIZE), 4.0), torch.linalg.inv(K)).view(1, 4, *SIZE)
    torch.testing.assert_close(points[0, :, 12, 16], torch.tensor([0.0, 0, 4, 1]))
    torch.testing.assert_close(points[0, :, 12, 17], torch.tensor([4 / 50, 0, 4, 1]))


def test_identity_pose_gives_identity_grid():
    depth, inverse = depth_map(1), torch.linalg.inv(K)
    grid = layers.Project3D(1, *SIZE)(layers.BackprojectDepth(1, *SIZE)(depth, inverse), K, torch.eye(4)[None])
    torch.testing.assert_close(grid, identity_grid(), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        reprojection_grid(depth, K, inverse, torch.eye(4)[None]), identity_grid(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_both_ways_to_the_grid_agree_for_any_batch_size(batch):
    T = layers.transformation_from_parameters(torch.tensor([[[0.02, -0.03, 0.01]]]), torch.tensor([[[0.2, 0.1, -0.4]]]))
    T, intrinsics, inverse = (each.expand(batch, 4, 4) for each in (T, K, torch.linalg.inv(K)))
    depth = depth_map(batch)
    points = layers.BackprojectDepth(12, *SIZE)(depth, inverse)  # the stored batch size says nothing
    assert points.shape == (batch, 4, SIZE[0] * SIZE[1])
    grid = layers.Project3D(12, *SIZE)(points, intrinsics, T)
    torch.testing.assert_close(reprojection_grid(depth, intrinsics, inverse, T), grid, atol=1e-5, rtol=1e-5)


def test_sideways_motion_shifts_by_focal_length_over_depth():
    T = torch.eye(4)[None].clone()
    T[0, 0, 3] = 0.2
    grid = reprojection_grid(torch.full((1, 1, *SIZE), 5.0), K, torch.linalg.inv(K), T)
    shift = (grid - identity_grid())[..., 0] * (SIZE[1] - 1) / 2
    torch.testing.assert_close(shift, torch.full_like(shift, 50 * 0.2 / 5), atol=1e-4, rtol=0)


def test_warping_by_the_identity_changes_nothing_and_beyond_the_border_its_edge_is_repeated():
    image = torch.rand(1, 3, *SIZE)
    torch.testing.assert_close(layers.warp(image, identity_grid()), image, atol=1e-5, rtol=0)
    beyond = layers.warp(image, torch.full((1, 1, 1, 2), 3.0))
    torch.testing.assert_close(beyond[0, :, 0, 0], image[0, :, -1, -1])


def test_ssim_of_equal_images_is_no_error_and_of_opposite_ones_nearly_one():
    image = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(layers.SSIM()(image, image), torch.zeros_like(image), atol=1e-5, rtol=0)
    stripes = torch.zeros(1, 1, 8, 8)
    stripes[..., ::2] = 1
    assert layers.SSIM()(stripes, 1 - stripes).mean() > 0.85


def test_ssim_of_constant_images_by_hand():
    x, y = torch.full((1, 1, 5, 5), 0.25), torch.full((1, 1, 5, 5), 0.75)
    expected = (1 - (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)) / 2
    torch.testing.assert_close(layers.SSIM()(x, y), torch.full_like(x, expected), atol=1e-4, rtol=0)


def test_a_constant_disparity_is_smooth_and_an_image_edge_licenses_a_step():
    flat = torch.ones(1, 1, 4, 6)
    step = flat.clone()
    step[..., 3:] = 2
    image = torch.zeros(1, 3, 4, 6)
    assert layers.get_smooth_loss(flat, image) == 0
    assert layers.get_smooth_loss(step, image) == pytest.approx(1 / 5)  # one of five differences is 1
    image[..., 3:] = 1
    assert layers.get_smooth_loss(step, image).item() == pytest.approx(math.exp(-1) / 5)


def test_depth_errors_by_hand():
    gt, pred = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])
    errors = [float(each) for each in layers.compute_depth_errors(gt, pred)]
    assert errors == pytest.approx([0.5, 1.0, math.sqrt(2), math.log(2) / math.sqrt(2), 0.5, 0.5, 0.5])


def images64(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 5, 7, dtype=torch.float64, generator=generator) for _ in range(2)]


def written_out(image, target):
    return PhotometricError.apply(image, target, *layers.local_statistics(target)[1:], SSIM_WEIGHT)


def plain(image, target):
    return photometric_error(image[None], target, layers.local_statistics(target))[0]


def test_the_written_gradient_of_the_photometric_error_is_its_derivative():
    image, target = images64(0)
    image.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: written_out(x, target), (image,), eps=1e-7, atol=1e-5)


def test_photometric_error_and_gradient_equal_the_plain_ones():
    image, target = images64(1)
    weights = torch.rand(2, 1, 5, 7, dtype=torch.float64)
    results = []
    for error in (written_out, plain):
        x = image.clone().requires_grad_()
        value = error(x, target)
        (value * weights).sum().backward()
        results.append((value.detach(), x.grad))
    torch.testing.assert_close(*(value for value, _ in results), atol=1e-12, rtol=0)
    torch.testing.assert_close(*(gradient for _, gradient in results), atol=1e-10, rtol=0)


def test_the_adjoint_of_the_local_sum_is_its_transpose():
    x, y = images64(2)
    forwards = (local_sum(x) * y).sum()
    torch.testing.assert_close((x * local_sum_adjoint(y)).sum(), forwards)


def test_upsampling_doubles_and_keeps_a_constant():
    assert torch.equal(layers.upsample(torch.ones(1, 2, 3, 4)), torch.ones(1, 2, 6, 8))
