"""Where the target's pixels lie in the source image, with the gradient written out.

K T K^-1 applied to (x, y, 1) is affine in x and y, so no list of points is built; and the gradient by that matrix needs
one map and its sums along rows and columns. `layers.project` of `layers.backproject` gives the same numbers.
"""

import torch

from layers import EPSILON, backproject, pixel_grid, project


def reprojection_grid(depth, K, inv_K, T):
    """Return `layers.project(layers.backproject(depth, inv_K), K, T, H, W)` in one affine step.

    Args:
        depth: (B, 1, H, W) of the target; K, inv_K, T: (B, 4, 4), T = T_source_target.

    Returns:
        sampling grid (B, H, W, 2), as `layers.project`; differentiable by depth and T.
    """
    if torch.compiler.is_compiling():  # which merges the plain version and cannot follow writes into parts of a tensor
        return project(backproject(depth, inv_K), K, T, *depth.shape[-2:])
    motion = K @ T
    return ReprojectionGrid.apply(depth, motion[:, :3, :3] @ inv_K[:, :3, :3], motion[:, :3, 3])


class ReprojectionGrid(torch.autograd.Function):
    """Sampling grid (B, H, W, 2) of depth (B, 1, H, W), matrix (B, 3, 3) = K R K^-1 and offset (B, 3) = K t.

    A pixel (x, y) lies at (X, Y) / (Z + epsilon), (X, Y, Z) = depth * matrix (x, y, 1) + offset.
    """

    @staticmethod
    def forward(ctx, depth, matrix, offset):
        height, width = depth.shape[-2:]
        rays = _rays(depth, matrix)
        camera = (depth * rays).add_(offset[..., None, None])
        inverse_z = camera[:, 2:].add_(EPSILON).reciprocal_()
        pixels = camera[:, :2].mul_(inverse_z)
        size = pixels.new_tensor([width - 1, height - 1])
        grid = pixels.permute(0, 2, 3, 1).mul(2 / size).sub_(1)
        ctx.save_for_backward(depth, matrix, pixels, inverse_z)
        return grid

    @staticmethod
    def backward(ctx, gradient):
        depth, matrix, pixels, inverse_z = ctx.saved_tensors
        batch, _, height, width = depth.shape
        size = pixels.new_tensor([width - 1, height - 1]).view(1, 2, 1, 1)
        by_camera = depth.new_empty(batch, 3, height, width)
        by_xy = torch.mul(gradient.permute(0, 3, 1, 2), 2 / size, out=by_camera[:, :2]).mul_(inverse_z)
        torch.sum(pixels * by_xy, 1, keepdim=True, out=by_camera[:, 2:]).neg_()
        by_depth = (by_camera * _rays(depth, matrix)).sum(1, keepdim=True)
        by_offset = by_camera.sum((2, 3))
        x, y = pixel_grid(height, width, depth.device, depth.dtype)
        by_camera.mul_(depth)
        rows = by_camera.sum(3)  # (B, 3, H)
        by_matrix = torch.stack(((by_camera @ x.view(-1)).sum(2), rows @ y.view(-1), rows.sum(2)), 2)
        return by_depth, by_matrix, by_offset


def _rays(depth, matrix):
    """Return matrix (x, y, 1) of every pixel, (B, 3, H, W)."""
    x, y = pixel_grid(*depth.shape[-2:], depth.device, depth.dtype)
    entries = matrix[..., None, None]
    return entries[:, :, 0] * x + (entries[:, :, 1] * y + entries[:, :, 2])
