"""Geometry, image similarity and small convolution blocks, under the names that the Monodepth2 family shares.

Conventions: images (B, 3, H, W) in [0, 1]; depth (B, 1, H, W) in metres up to the scale that monocular video leaves
open; pixels are integers counted from 0, x to the right, y down; the camera looks along +z. `T_source_target` maps
points of the target camera into the source camera; K is the 4x4 matrix of intrinsics in pixels of the image at hand.

Functions come first; the classes below them keep the shared names and own no state beyond sizes or weights.
"""

from typing import NamedTuple

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


def multiply(first, second):
    """Return the matrix product of small matrices (..., n, k) and (..., k, m), in full precision on every device.

    Sums of products instead of a matrix-product kernel: GPUs round the inputs of those to ten bits (TF32) or to half
    precision, which moves the pixels of an identity warp by a fifth of a pixel.
    """
    return (first[..., :, :, None] * second[..., None, :, :]).sum(-2)


def rot_from_axisangle(vec):
    """Return rotation matrices (B, 4, 4) for axis-angle vectors (B, 1, 3), in radians (Rodrigues' formula)."""
    return rigid_motion(rotation(vec), torch.zeros_like(vec).transpose(1, 2))


def get_translation_matrix(translation_vector):
    """Return the 4x4 matrices (B, 4, 4) that translate by vectors (B, 1, 3)."""
    offset = translation_vector.reshape(-1, 3, 1)
    return rigid_motion(torch.eye(3, device=offset.device, dtype=offset.dtype).expand(len(offset), 3, 3), offset)


def transformation_from_parameters(axisangle, translation, invert=False):
    """Return rigid motions (B, 4, 4) from axis-angle (B, 1, 3) and translation (B, 1, 3).

    The motion is Trans(t) R; with `invert` it is the inverse, R^T Trans(-t), which is R^T with the offset -R^T t.
    """
    return rigid_motion(rotation(axisangle), translation.transpose(1, 2), invert)


def rotation(vec):
    """Return cos(a) I + sin(a) [v]x + (1 - cos(a)) v v^T, (B, 3, 3), of vectors a v (B, 1, 3), v of length one."""
    angle = vec.norm(dim=2, keepdim=True)  # (B, 1, 1)
    axis = vec / (angle + EPSILON)
    x, y, z = axis.unbind(2)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), 2).view(-1, 3, 3)
    cos, identity = angle.cos(), torch.eye(3, device=vec.device, dtype=vec.dtype)
    return cos * identity + angle.sin() * cross + (1 - cos) * (axis.transpose(1, 2) * axis)


def rigid_motion(turn, offset, invert=False):
    """Return the motion (B, 4, 4) of a rotation (B, 3, 3) followed by an offset (B, 3, 1), or its inverse."""
    if invert:
        turn = turn.transpose(1, 2)
        offset = -multiply(turn, offset)
    last = torch.eye(4, device=offset.device, dtype=offset.dtype)[3:].expand(len(offset), 1, 4)
    return torch.cat((torch.cat((turn, offset), 2), last), 1)


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
    points = depth.reshape(batch, 1, height, width) * pixel_rays(inv_K[:, :3, :3], height, width)
    return torch.cat((points, torch.ones_like(points[:, :1])), 1).reshape(batch, 4, -1)


def pixel_rays(matrix, height, width):
    """Return matrix (x, y, 1) of every pixel, (..., 3, H, W), for matrices (..., 3, 3)."""
    x, y = pixel_grid(height, width, matrix.device, matrix.dtype)
    first, second, third = (column[..., None, None] for column in matrix.unbind(-1))
    return (first * x + third) + second * y


def project(points, K, T, height, width):
    """Project points (B, 4, H*W) of the target camera into the source image.

    Returns:
        sampling grid (B, H, W, 2) for `grid_sample(align_corners=True)`: -1 and 1 are the centres of the border pixels.
    """
    columns = (column[..., None] for column in multiply(grid_units(K, height, width), T)[:, :3].unbind(-1))
    camera = sum(column * row for column, row in zip(columns, points[:, :, None].unbind(1), strict=True))
    camera = camera.reshape(-1, 3, height, width)
    return sampling_grid(camera[:, :2], camera[:, 2:] + EPSILON)


def grid_units(K, height, width):
    """Return intrinsics (..., 4, 4) that give pixels in units of half an image: 0 to 2 from border to border."""
    return torch.cat((K[..., :1, :] * (2 / (width - 1)), K[..., 1:2, :] * (2 / (height - 1)), K[..., 2:, :]), -2)


def sampling_grid(xy, z):
    """Return the grid (..., H, W, 2) of what `grid_units` have projected: xy (..., 2, H, W), and z + EPSILON."""
    return torch.addcmul(xy.new_full((), -1.0), xy, 1 / z).movedim(-3, -1)


def warp(image, grid):
    """Sample `image` (B, C, H, W) bilinearly at `grid` (B, H, W, 2); beyond the border its edge is repeated.

    Raises:
        FloatingPointError: on a CPU, a coordinate is NaN: torch's gradient would then end the process, and its forward
            pass would make an ordinary pixel of it.
    """
    if grid.device.type == "cpu":
        if torch.compiler.is_compiling():
            grid = grid.nan_to_num()
        elif grid.isnan().any():
            raise FloatingPointError("disparity or motion")
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


# ----------------------------------------------------------------------------------------------------------- similarity


class LocalStatistics(NamedTuple):
    """What SSIM takes of an image y that several others are compared with; maps of 3x3 windows but for the first.

    padded: 2 y, its border reflected; mean: 2 m(y); luminance: m(y)^2 + C1; contrast: m(y^2) - m(y)^2 + C2.
    """

    padded: torch.Tensor
    mean: torch.Tensor
    luminance: torch.Tensor
    contrast: torch.Tensor


def local_statistics(y):
    """Return the `LocalStatistics` of an image (B, C, H, W)."""
    padded = reflected(y)
    mean = window_mean(padded)
    square = mean.square()
    return LocalStatistics(2 * padded, 2 * mean, square + SSIM_C1, window_mean(padded.square()) - square + SSIM_C2)


def negative_ssim(x, y):
    """Return minus the structural similarity of images with another, per pixel and channel.

    The sign is that of the product of means, whose gradient would have to be negated otherwise.

    Args:
        x: (..., B, C, H, W) in [0, 1].
        y: `local_statistics` of an image (B, C, H, W).

    Returns:
        (..., B, C, H, W). Source: Wang et al. 2004, eq. 13, over 3x3 windows.
    """
    padded = reflected(x)
    mean = window_mean(padded)
    square, product = mean.square(), mean * -y.mean
    both = torch.addcmul(padded.new_full((), SSIM_C2), padded, y.padded)
    numerator = (product - SSIM_C1) * (window_mean(both) + product)
    denominator = (square + y.luminance) * (window_mean(padded.square()) - square + y.contrast)
    return numerator / denominator


def ssim_error(x, y):
    """Return the structural dissimilarity (1 - SSIM) / 2 of two images, per pixel and channel, clamped to [0, 1].

    Args:
        x, y: (B, C, H, W) in [0, 1].

    Returns:
        (B, C, H, W). Source: Godard et al. 2017, eq. 1.
    """
    return (1 + negative_ssim(x, local_statistics(y)).clamp(-1, 1)) / 2


def reflected(x):
    """Return images (..., C, H, W) with one more pixel at each border, its inner neighbour: (..., C, H + 2, W + 2)."""
    padded = F.pad(x.reshape(-1, *x.shape[-3:]), (1, 1, 1, 1), mode="reflect")
    return padded.view(*x.shape[:-2], *padded.shape[-2:])


def window_mean(x):
    """Return the means over all 3x3 windows of images (..., C, H, W): (..., C, H - 2, W - 2)."""
    if x.device.type != "cpu":
        return F.avg_pool2d(x.flatten(0, -4), 3, 1).unflatten(0, x.shape[:-3])
    # On a CPU sums of shifted maps take a seventh of the time of `avg_pool2d`, which has no vector code for them.
    rows = x[..., :-2] + x[..., 1:-1] + x[..., 2:]
    return (rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]) / 9


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
