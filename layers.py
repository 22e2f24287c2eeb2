"""Geometry, image similarity and small convolution blocks, under the names that the Monodepth2 family shares.

Conventions: images (B, 3, H, W) in [0, 1]; depth (B, 1, H, W) in metres up to the scale that monocular video leaves
open; pixels are integers counted from 0, x to the right, y down; the camera looks along +z. `T_source_target` maps
points of the target camera into the source camera; K is the 4x4 matrix of intrinsics in pixels of the image at hand.

Functions come first; the classes below them keep the shared names and own no state beyond sizes or weights.
"""

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-7  # keeps divisions by a depth, an angle or a mean finite
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # Wang et al. 2004, eq. 13, for images in [0, 1]


# ---------------------------------------------------------------------------------------------------------------- depth


def disp_to_depth(disp, min_depth, max_depth):
    """Convert the network's sigmoid output to depth: disparity is linear between 1/max_depth and 1/min_depth.

    Args:
        disp: any shape, in [0, 1].
        min_depth, max_depth: metres, 0 < min_depth < max_depth.

    Returns:
        (scaled disparity in 1/metres, depth in metres), both of disp's shape.
        Source: Godard et al. 2019 (Monodepth2), section 3.3.
    """
    low, high = 1 / max_depth, 1 / min_depth
    scaled = low + (high - low) * disp
    return scaled, 1 / scaled


# --------------------------------------------------------------------------------------------------------------- motion


def rot_from_axisangle(vec):
    """Return rotation matrices (B, 4, 4) for axis-angle vectors (B, 1, 3), in radians (Rodrigues' formula)."""
    angle = vec.norm(dim=2, keepdim=True)  # (B, 1, 1)
    x, y, z = (vec / (angle + EPSILON))[:, 0].unbind(1)
    angle = angle[:, 0, 0]
    cos, sin = angle.cos(), angle.sin()
    turn = 1 - cos
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = (
        (x * x * turn + cos, x * y * turn - z * sin, z * x * turn + y * sin, zero),
        (x * y * turn + z * sin, y * y * turn + cos, y * z * turn - x * sin, zero),
        (z * x * turn - y * sin, y * z * turn + x * sin, z * z * turn + cos, zero),
        (zero, zero, zero, one),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def get_translation_matrix(translation_vector):
    """Return the 4x4 matrices (B, 4, 4) that translate by vectors (B, 1, 3)."""
    offset = translation_vector.reshape(-1, 3, 1)
    matrix = torch.eye(4, device=offset.device, dtype=offset.dtype).repeat(offset.shape[0], 1, 1)
    return torch.cat((matrix[:, :, :3], torch.cat((offset, matrix[:, 3:, 3:]), 1)), 2)


def transformation_from_parameters(axisangle, translation, invert=False):
    """Return rigid motions (B, 4, 4) from axis-angle (B, 1, 3) and translation (B, 1, 3).

    The motion is Trans(t) R; with `invert` it is the inverse, R^T Trans(-t).
    """
    rotation = rot_from_axisangle(axisangle)
    if invert:
        return rotation.transpose(1, 2) @ get_translation_matrix(-translation)
    return get_translation_matrix(translation) @ rotation


# ----------------------------------------------------------------------------------------------------------- projection


def pixel_grid(height, width, device=None, dtype=torch.float32):
    """Return the pixel coordinates x (1, 1, W) and y (1, H, 1), which broadcast to (1, H, W)."""
    x = torch.arange(width, device=device, dtype=dtype).view(1, 1, width)
    y = torch.arange(height, device=device, dtype=dtype).view(1, height, 1)
    return x, y


def backproject(depth, inv_K):
    """Lift every pixel to a homogeneous point of its own camera.

    Args:
        depth: (B, 1, H, W), or anything with B*H*W values when H and W are told by its last two dimensions.
        inv_K: (B, 4, 4).

    Returns:
        points (B, 4, H*W).
    """
    batch, height, width = depth.shape[0], depth.shape[-2], depth.shape[-1]
    x, y = pixel_grid(height, width, depth.device, depth.dtype)
    pixels = torch.stack((x.expand(1, height, width), y.expand(1, height, width), torch.ones_like(x + y)), 1)
    rays = inv_K[:, :3, :3] @ pixels.reshape(1, 3, -1)
    points = depth.reshape(batch, 1, -1) * rays
    return torch.cat((points, torch.ones_like(points[:, :1])), 1)


def project(points, K, T, height, width):
    """Project points (B, 4, H*W) of the target camera into the source image.

    Returns:
        sampling grid (B, H, W, 2) for `grid_sample(align_corners=True)`: -1 and 1 are the centres of the border pixels.
    """
    camera = (K @ T)[:, :3] @ points
    pixels = camera[:, :2] / (camera[:, 2:] + EPSILON)
    return _normalise(pixels.reshape(-1, 2, height, width)).permute(0, 2, 3, 1)


def _normalise(pixels):
    height, width = pixels.shape[-2:]
    size = torch.tensor([width - 1, height - 1], device=pixels.device, dtype=pixels.dtype).view(1, 2, 1, 1)
    return (pixels / size - 0.5) * 2


def warp(image, grid):
    """Sample `image` (B, C, H, W) bilinearly at `grid` (B, H, W, 2); beyond the border its edge is repeated."""
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


# ----------------------------------------------------------------------------------------------------------- similarity


def local_mean(x):
    """Return the mean over each pixel's 3x3 window, (B, C, H, W), of an image reflected at its border.

    A sum along x, then along y: on a CPU seven times as fast as `avg_pool2d`, which has no vector code for this layout,
    and torch.compile merges it with its surroundings.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    rows = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) * (1 / 9)


def ssim_error(x, y):
    """Return the structural dissimilarity (1 - SSIM) / 2 of two images, per pixel and channel, clamped to [0, 1].

    Args:
        x, y: (B, C, H, W) in [0, 1].

    Returns:
        (B, C, H, W). Source: Wang et al. 2004, eq. 13, over 3x3 windows; Godard et al. 2017, eq. 1.
    """
    mean_x, mean_y = local_mean(x), local_mean(y)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    numerator = (2 * product + SSIM_C1) * (2 * (local_mean(x * y) - product) + SSIM_C2)
    denominator = (squares + SSIM_C1) * (local_mean(x * x) + local_mean(y * y) - squares + SSIM_C2)
    return ((1 - numerator / denominator) / 2).clamp(0, 1)


def get_smooth_loss(disp, img):
    """Return the edge-aware first-order smoothness of a disparity map, a scalar.

    Args:
        disp: (B, 1, H, W), usually divided by its own mean.
        img: (B, C, H, W) in [0, 1], whose edges license edges of the disparity.

    Source: Godard et al. 2019, eq. 3.
    """
    loss = 0
    for dim in (3, 2):
        weight = torch.exp(-img.diff(dim=dim).abs().mean(1, keepdim=True))
        loss = loss + (disp.diff(dim=dim).abs() * weight).mean()
    return loss


def compute_depth_errors(gt, pred):
    """Return the seven standard depth metrics of two tensors of valid depths of equal shape, in metres.

    Returns:
        abs_rel, sq_rel, rmse, rmse_log, a1, a2, a3: scalars. Source: Eigen et al. 2014, section 4.2.
    """
    ratio = torch.maximum(gt / pred, pred / gt)
    a1, a2, a3 = ((ratio < 1.25**power).to(gt.dtype).mean() for power in (1, 2, 3))
    difference = gt - pred
    rmse = difference.square().mean().sqrt()
    rmse_log = (gt.log() - pred.log()).square().mean().sqrt()
    return (difference.abs() / gt).mean(), (difference.square() / gt).mean(), rmse, rmse_log, a1, a2, a3


# -------------------------------------------------------------------------------------------------------------- classes


class BackprojectDepth(nn.Module):
    """`backproject` under its shared name: (depth (B, 1, H, W), inv_K (B, 4, 4)) -> (B, 4, H*W), for any B."""

    def __init__(self, batch_size, height, width):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, depth, inv_K):
        return backproject(depth.reshape(depth.shape[0], 1, self.height, self.width), inv_K)


class Project3D(nn.Module):
    """`project` under its shared name: (points (B, 4, H*W), K, T (B, 4, 4)) -> grid (B, H, W, 2), for any B."""

    def __init__(self, batch_size, height, width, eps=EPSILON):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, points, K, T):
        return project(points, K, T, self.height, self.width)


class SSIM(nn.Module):
    """`ssim_error` under its shared name: two images (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x, y):
        return ssim_error(x, y)


class Conv3x3(nn.Module):
    """3x3 convolution over an image padded by reflection (or zeros), same size out."""

    def __init__(self, in_channels, out_channels, use_refl=True):
        super().__init__()
        mode = "reflect" if use_refl else "zeros"
        self.conv = nn.Conv2d(int(in_channels), int(out_channels), 3, padding=1, padding_mode=mode)

    def forward(self, x):
        return self.conv(x)


class ConvBlock(nn.Module):
    """`Conv3x3`, then ELU."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = Conv3x3(in_channels, out_channels)

    def forward(self, x):
        return F.elu(self.conv(x), inplace=True)


def upsample(x):
    """Return (B, C, H, W) at twice its size, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
