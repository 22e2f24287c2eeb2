"""View synthesis: frame 0 as other frames show it, through predicted depth and motion (Zhou et al. 2017)."""

import torch

from layers import EPSILON, grid_units, multiply, pixel_rays, sampling_grid, warp


def synthesise(images, depth, K, inv_K, transforms):
    """Return frame 0 rebuilt from each source: the source sampled where frame 0's points project.

    Args:
        images: (S, B, C, H, W), the sources.
        depth: (B, 1, H, W) of frame 0.
        K, inv_K: (B, 4, 4).
        transforms: (S, B, 4, 4), T_source_0.

    Returns:
        (S, B, C, H, W); differentiable with respect to depth and transforms.
    """
    grid = reprojection_grid(depth, K, inv_K, transforms)
    return warp(images.flatten(0, 1), grid.flatten(0, 1)).view(images.shape)


def reprojection_grid(depth, K, inv_K, T):
    """Return `layers.project(layers.backproject(depth, inv_K), K, T, H, W)`, for T of any leading dimensions.

    K T K^-1 applied to depth * (x, y, 1) is depth * (K R K^-1)(x, y, 1) + K t: no list of points is built.

    Args:
        depth: (B, 1, H, W) of the target; K, inv_K: (B, 4, 4); T: (..., B, 4, 4), T_source_target.

    Returns:
        sampling grid (..., B, H, W, 2).
    """
    size = depth.shape[-2:]
    motion = multiply(grid_units(K, *size), T)
    matrix, offset = multiply(motion[..., :3, :3], inv_K[..., :3, :3]), motion[..., :3, 3, None, None]
    xy, z = slice(0, 2), slice(2, 3)
    return sampling_grid(
        torch.addcmul(offset[..., xy, :, :], depth, pixel_rays(matrix[..., xy, :], *size)),
        torch.addcmul(offset[..., z, :, :] + EPSILON, depth, pixel_rays(matrix[..., z, :], *size)),
    )
