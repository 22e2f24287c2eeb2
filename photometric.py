"""The photometric error of an image against a target, 0.85 SSIM + 0.15 L1, with its gradient written out.

`PhotometricError` keeps only the images and the target's local means for the backward pass, where automatic
differentiation of `plain_photometric_error` keeps some fifteen maps a source and scale. Both give the same numbers.
"""

import torch

from layers import SSIM_C1, SSIM_C2, local_mean, ssim_error, ssim_from_moments

SSIM_WEIGHT = 0.85  # alpha of Godard et al. 2017, eq. 1


def plain_photometric_error(image, target):
    """Return 0.85 * mean_c SSIM error + 0.15 * mean_c L1 of two images (B, C, H, W) in [0, 1], as (B, 1, H, W)."""
    l1 = (image - target).abs().mean(1, keepdim=True)
    return SSIM_WEIGHT * ssim_error(image, target).mean(1, keepdim=True) + (1 - SSIM_WEIGHT) * l1


class PhotometricError(torch.autograd.Function):
    """`plain_photometric_error(image, target)`; differentiable with respect to `image` alone.

    `apply(image, target, mean_target, mean_target_squared)`: the last two are `local_mean` of target and its square.
    """

    @staticmethod
    def forward(ctx, image, target, mean_target, mean_square):
        ctx.save_for_backward(image, target, mean_target, mean_square)
        means = local_mean(image), mean_target, local_mean(image * image), mean_square, local_mean(image * target)
        ssim = ssim_from_moments(*means).mean(1, keepdim=True)
        return SSIM_WEIGHT * ssim + (1 - SSIM_WEIGHT) * (image - target).abs().mean(1, keepdim=True)

    @staticmethod
    def backward(ctx, gradient):
        """With means m, SSIM = A1 A2 / (B1 B2); its derivatives by m_x, m_xx, m_xy pass through the adjoint mean."""
        image, target, mean_y, mean_yy = ctx.saved_tensors
        channels = image.shape[1]
        mean_x = local_mean(image)
        product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        a1 = 2 * product + SSIM_C1
        a2 = 2 * (local_mean(image * target) - product) + SSIM_C2
        b1 = squares + SSIM_C1
        b2 = local_mean(image * image) + mean_yy - squares + SSIM_C2
        scale = 1 / (b1 * b2)
        ssim = a1 * a2 * scale
        inside = (ssim >= -1) & (ssim <= 1)  # where the clamp of (1 - SSIM) / 2 lets the gradient through
        outer = torch.where(inside, gradient * (-0.5 * SSIM_WEIGHT / channels), 0)
        by_mean = outer * (2 * mean_y * (a2 - a1) * scale - 2 * mean_x * ssim * (1 / b1 - 1 / b2))
        by_square = outer * (-ssim / b2)
        by_product = outer * (2 * a1 * scale)
        result = local_mean_adjoint(by_mean)
        result += 2 * image * local_mean_adjoint(by_square)
        result += target * local_mean_adjoint(by_product)
        result += torch.sign(image - target) * (gradient * ((1 - SSIM_WEIGHT) / channels))
        return result, None, None, None


def local_mean_adjoint(gradient):
    """Return the transpose of `layers.local_mean` applied to (B, C, H, W): averaged, then the border folded back in."""
    return _sums_of_three(_sums_of_three(gradient * (1 / 9), 3), 2)


def _sums_of_three(x, dim):
    """Return the transpose of reflecting by one and summing windows of three along `dim`."""
    length = x.shape[dim]
    result = x.clone()
    result.narrow(dim, 1, length - 1).add_(x.narrow(dim, 0, length - 1))
    result.narrow(dim, 0, length - 1).add_(x.narrow(dim, 1, length - 1))
    result.narrow(dim, 1, 1).add_(x.narrow(dim, 0, 1))  # position -1 is position 1, seen by the window around 0
    result.narrow(dim, length - 2, 1).add_(x.narrow(dim, length - 1, 1))
    return result
