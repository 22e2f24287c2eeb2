"""The photometric error of an image against a target, 0.85 SSIM + 0.15 L1, with its gradient written out.

`PhotometricError` keeps the three derivatives of SSIM by its local sums; automatic differentiation of
`plain_photometric_error` keeps some fifteen maps a source and scale. Both give the same numbers.

With sums s over the nine pixels of a window instead of means, SSIM = A1 A2 / (B1 B2) with
A1 = 2 s_x s_y + 81 C1, A2 = 2 (9 s_xy - s_x s_y) + 81 C2, B1 = s_x^2 + s_y^2 + 81 C1 and
B2 = 9 (s_xx + s_yy) - s_x^2 - s_y^2 + 81 C2 (Wang et al. 2004, eq. 13, over 3x3 windows).
"""

import torch

from layers import SSIM_C1, SSIM_C2, ssim_error

SSIM_WEIGHT = 0.85  # alpha of Godard et al. 2017, eq. 1


def plain_photometric_error(image, target):
    """Return 0.85 * mean_c SSIM error + 0.15 * mean_c L1 of two images (B, C, H, W) in [0, 1], as (B, 1, H, W)."""
    l1 = (image - target).abs().mean(1, keepdim=True)
    return SSIM_WEIGHT * ssim_error(image, target).mean(1, keepdim=True) + (1 - SSIM_WEIGHT) * l1


def photometric_error(image, target, sums):
    """Return `plain_photometric_error(image, target)`, differentiable by `image`; `sums`: `target_sums(target)`."""
    if sums is None:
        return plain_photometric_error(image, target)
    return PhotometricError.apply(image, target, *sums)


def target_sums(target):
    """Return what errors against the same target share: local sums of it and its square; None under torch.compile."""
    # torch.compile merges the plain version by itself and cannot follow writes into parts of a tensor.
    return None if torch.compiler.is_compiling() else (local_sum(target), local_sum(target.square()))


class PhotometricError(torch.autograd.Function):
    """`plain_photometric_error(image, target)`; differentiable with respect to `image` alone.

    `apply(image, target, sum_target, sum_target_squared)`: the last two are `local_sum` of target and its square.
    """

    @staticmethod
    def forward(ctx, x, y, sum_y, sum_yy):
        sum_x = local_sum(x)
        product, squares = sum_x * sum_y, (sum_x * sum_x).addcmul_(sum_y, sum_y)
        a2 = local_sum(x * y).mul_(9).sub_(product).mul_(2).add_(81 * SSIM_C2)
        a1 = product.mul_(2).add_(81 * SSIM_C1)
        b2 = local_sum(x * x).add_(sum_yy).mul_(9).sub_(squares).add_(81 * SSIM_C2)
        b1 = squares.add_(81 * SSIM_C1)
        scale = (b1 * b2).reciprocal_()
        ssim = (a1 * a2).mul_(scale)
        difference = x - y
        error = ssim.mul(-0.5).add_(0.5).clamp_(0, 1).mean(1, keepdim=True).mul_(SSIM_WEIGHT)
        error.add_(difference.abs().mean(1, keepdim=True), alpha=1 - SSIM_WEIGHT)
        if ctx.needs_input_grad[0]:
            by_sum = ((a2 - a1).mul_(sum_y)).sub_((b2 - b1).mul_(ssim).mul_(sum_x)).mul_(scale).mul_(2)
            by_sum_xx = (b1 * ssim).mul_(scale).mul_(-9)
            by_sum_xy = a1.mul_(scale).mul_(18)
            # One where the clamp lets the gradient through, -1 <= SSIM <= 1, else zero: faster on a CPU than booleans.
            inside = ssim.abs_().neg_().add_(1).sign_().add_(1).clamp_(max=1)
            ctx.save_for_backward(x, y, by_sum, by_sum_xx, by_sum_xy, inside, difference)
        return error

    @staticmethod
    def backward(ctx, gradient):
        x, y, by_sum, by_sum_xx, by_sum_xy, inside, difference = ctx.saved_tensors
        channels = x.shape[1]
        outer = inside * (gradient * (-0.5 * SSIM_WEIGHT / channels))
        result = local_sum_adjoint(by_sum_xx * outer).mul_(x).mul_(2)
        result += local_sum_adjoint(by_sum * outer)
        result.addcmul_(y, local_sum_adjoint(by_sum_xy * outer))
        return result.add_(difference.sign().mul_(gradient * ((1 - SSIM_WEIGHT) / channels))), None, None, None


def local_sum(x):
    """Return the sum over each pixel's 3x3 window, (B, C, H, W), of an image reflected at its border."""
    return _sum_of_three(_sum_of_three(x, 3), 2)


def local_sum_adjoint(gradient):
    """Return the transpose of `local_sum` applied to (B, C, H, W)."""
    return _sum_of_three_adjoint(_sum_of_three_adjoint(gradient, 2), 3)


def _sum_of_three(x, dim):
    """Sum windows of three along `dim`; what lies beyond an end is the end's inner neighbour."""
    last = x.shape[dim] - 1
    result = torch.empty_like(x)
    torch.add(x.narrow(dim, 0, last - 1), x.narrow(dim, 2, last - 1), out=result.narrow(dim, 1, last - 1))
    torch.mul(x.select(dim, 1), 2, out=result.select(dim, 0))
    torch.mul(x.select(dim, last - 1), 2, out=result.select(dim, last))
    return result.add_(x)


def _sum_of_three_adjoint(x, dim):
    """The transpose of `_sum_of_three`: the same, but an end passes its value on to its inner neighbour once more."""
    last = x.shape[dim] - 1
    result = torch.empty_like(x)
    torch.add(x.narrow(dim, 0, last - 1), x.narrow(dim, 2, last - 1), out=result.narrow(dim, 1, last - 1))
    result.select(dim, 0).copy_(x.select(dim, 1))
    result.select(dim, last).copy_(x.select(dim, last - 1))
    result.add_(x)
    result.select(dim, 1).add_(x.select(dim, 0))
    result.select(dim, last - 1).add_(x.select(dim, last))
    return result
