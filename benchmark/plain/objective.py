"""The training objective step by step, every map a tensor of its own and everything repeated for every scale."""

import torch
import torch.nn.functional as F


def compute_losses(inputs, outputs, scales=(0, 1, 2), sources=(-1, 1), noise=None, smoothness=1e-3):
    """Return the total loss and the warped images {(frame, scale): (B, 3, H, W)}.

    noise: (B, sources, H, W) of variance one for the identity errors; drawn for every scale if not given.
    """
    target = inputs["color", 0, 0]
    size, total, warped = target.shape[-2:], 0, {}
    for scale in scales:
        disp = outputs["disp", scale]
        full = F.interpolate(disp, size, mode="bilinear", align_corners=False)
        depth = 1 / (1 / 100 + (1 / 0.1 - 1 / 100) * full)
        errors = []
        for frame in sources:
            grid = project(backproject(depth, inputs["inv_K", 0]), inputs["K", 0], outputs["cam_T_cam", 0, frame], size)
            image = F.grid_sample(inputs["color", frame, 0], grid, padding_mode="border", align_corners=True)
            errors.append(photometric_error(image, target))
            warped[frame, scale] = image
        identity = torch.cat([photometric_error(inputs["color", frame, 0], target) for frame in sources], 1)
        identity = identity + 1e-5 * (torch.randn(identity.shape) if noise is None else noise)
        least = torch.cat([identity, *errors], 1).min(1)[0]
        normal = disp / (disp.mean(2, True).mean(3, True) + 1e-7)
        total = total + least.mean() + smoothness * edge_aware(normal, inputs["color", 0, scale]) / 2**scale
    return total / len(scales), warped


def backproject(depth, inv_K):
    """Return the homogeneous points (B, 4, H*W) of every pixel."""
    batch, _, height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    pixels = torch.stack((x.flatten(), y.flatten(), torch.ones(height * width)))[None].repeat(batch, 1, 1)
    points = depth.view(batch, 1, -1) * (inv_K[:, :3, :3] @ pixels)
    return torch.cat((points, torch.ones(batch, 1, height * width)), 1)


def project(points, K, T, size):
    """Return the sampling grid (B, H, W, 2)."""
    camera = (K @ T)[:, :3] @ points
    pixels = camera[:, :2] / (camera[:, 2:3] + 1e-7)
    pixels = pixels.view(-1, 2, *size).permute(0, 2, 3, 1)
    return (pixels / torch.tensor([size[1] - 1.0, size[0] - 1.0]) - 0.5) * 2


def photometric_error(image, target):
    """Return 0.85 SSIM + 0.15 L1, (B, 1, H, W)."""
    return 0.85 * ssim(image, target).mean(1, True) + 0.15 * (target - image).abs().mean(1, True)


def ssim(x, y):
    """Return (1 - SSIM) / 2 clamped to [0, 1], (B, C, H, W)."""
    x, y = F.pad(x, (1, 1, 1, 1), mode="reflect"), F.pad(y, (1, 1, 1, 1), mode="reflect")
    mean_x, mean_y = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
    variance_x = F.avg_pool2d(x**2, 3, 1) - mean_x**2
    variance_y = F.avg_pool2d(y**2, 3, 1) - mean_y**2
    covariance = F.avg_pool2d(x * y, 3, 1) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    denominator = (mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2)
    return torch.clamp((1 - numerator / denominator) / 2, 0, 1)


def edge_aware(disp, image):
    """Return the edge-aware smoothness, a scalar."""
    disp_x, disp_y = disp[..., :-1] - disp[..., 1:], disp[:, :, :-1] - disp[:, :, 1:]
    image_x, image_y = image[..., :-1] - image[..., 1:], image[:, :, :-1] - image[:, :, 1:]
    along_x = disp_x.abs() * torch.exp(-image_x.abs().mean(1, True))
    along_y = disp_y.abs() * torch.exp(-image_y.abs().mean(1, True))
    return along_x.mean() + along_y.mean()
