"""The photometric error of images against a target: 0.85 SSIM + 0.15 L1 (Godard et al. 2017, eq. 1)."""

import torch

from cpu import training_on_cpu
from cpu.photometric_error import photometric_error_on_cpu
from layers import mean_and_variance, ssim_error

SSIM_WEIGHT = 0.85  # alpha


class Target:
    """The image that others are compared with, and what all comparisons share.

    Args:
        image: (B, C, H, W) in [0, 1].
        ssim: whether the error has its SSIM part; without, it is L1 with weight 1.
    """

    def __init__(self, image, ssim=True):
        self.image, self.size = image, tuple(image.shape[-2:])
        self.statistics = mean_and_variance(image) if ssim else None

    def error(self, images):
        """Return the photometric errors (S, B, 1, H, W) of images (S, B, C, H, W), differentiable by the images."""
        if self.statistics is None:
            return l1_error(images, self.image)
        if training_on_cpu(images, "photometric_error"):
            return photometric_error_on_cpu(images, self.image, self.statistics, SSIM_WEIGHT)
        return photometric_error(images, self.image, self.statistics)


def photometric_error(images, target, statistics=None):
    """Return 0.85 * mean_c SSIM error + 0.15 * mean_c L1, (S, B, 1, H, W).

    Args:
        images: (S, B, C, H, W) in [0, 1]; target: (B, C, H, W).
        statistics: `layers.mean_and_variance(target)`.
    """
    ssim = torch.stack([ssim_error(image, target, statistics) for image in images])
    return SSIM_WEIGHT * ssim.mean(-3, keepdim=True) + (1 - SSIM_WEIGHT) * l1_error(images, target)


def l1_error(images, target):
    """Return the absolute difference averaged over channels, (S, B, 1, H, W)."""
    return (images - target).abs().mean(-3, keepdim=True)
