"""The photometric error of images against a target: 0.85 SSIM + 0.15 L1 (Godard et al. 2017, eq. 1)."""

import torch
import torch.nn.functional as F

from cpu import training_on_cpu
from cpu.photometric_error import photometric_error_on_cpu
from layers import local_statistics, negative_ssim

SSIM_WEIGHT = 0.85  # alpha


class Target:
    """The image that others are compared with, and what all comparisons share.

    Args:
        image: (B, C, H, W) in [0, 1].
        ssim: whether the error has its SSIM part; without, it is L1 with weight 1.
    """

    def __init__(self, image, ssim=True):
        self.image, self.size = image, tuple(image.shape[-2:])
        self.statistics = local_statistics(image) if ssim else None

    def error(self, images):
        """Return the photometric errors (S, B, 1, H, W) of images (S, B, C, H, W), differentiable in them."""
        if self.statistics is None:
            return l1_error(images, self.image)
        if training_on_cpu(images, "photometric_error"):
            return photometric_error_on_cpu(images, self.image, self.statistics, SSIM_WEIGHT)
        return photometric_error(images, self.image, self.statistics)


def photometric_error(images, target, statistics):
    """Return 0.85 * mean_c (1 - SSIM) / 2 + 0.15 * mean_c L1, (S, B, 1, H, W), with SSIM clamped to [-1, 1].

    Args:
        images: (S, B, C, H, W) in [0, 1]; target: (B, C, H, W).
        statistics: `layers.local_statistics(target)`.
    """
    dissimilarity = (1 + F.hardtanh(negative_ssim(images, statistics)).mean(-3, keepdim=True)) / 2  # clamped
    return torch.lerp(l1_error(images, target), dissimilarity, SSIM_WEIGHT)


def l1_error(images, target):
    """Return the absolute difference averaged over channels, (S, B, 1, H, W)."""
    return torch.linalg.vector_norm(images - target, 1, -3, keepdim=True) / images.shape[-3]
