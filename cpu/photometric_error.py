"""The photometric error with its gradient written out, for CPUs.

`PhotometricError` keeps the three derivatives of SSIM by its local means; automatic differentiation of
`losses.photometric.photometric_error` keeps some fifteen maps a source and scale. Both give the same numbers.

SSIM = A1 A2 / (B1 B2) with the local means m over 3x3 windows, A1 = 2 m_x m_y + C1, A2 = 2 (m_xy - m_x m_y) + C2,
B1 = m_x^2 + m_y^2 + C1 and B2 = m_xx - m_x^2 + m_yy - m_y^2 + C2 (Wang et al. 2004, eq. 13).
"""

import torch

from layers import SSIM_C1, SSIM_C2


def photometric_error_on_cpu(images, target, statistics, ssim_weight):
    """Return `losses.photometric.photometric_error(images, target, statistics)`, (S, B, 1, H, W)."""
    # One source after the other: the maps of one stay in the cache.
    return torch.stack([PhotometricError.apply(image, target, *statistics[1:], ssim_weight) for image in images])


class PhotometricError(torch.autograd.Function):
    """Photometric error (B, 1, H, W) of an image against a target; differentiable with respect to the image alone.

    `apply(image, target, mean, luminance, contrast, ssim_weight)`: of the target's `layers.local_statistics`.
    """

    @staticmethod
    def forward(ctx, x, y, mean_y, luminance, contrast, ssim_weight):
        ninth = x / 9  # not times 1 / 9, whose rounding would go the same way everywhere
        mean_x = local_sum(ninth)
        product, square = mean_x * mean_y, mean_x * mean_x
        a2 = local_sum(ninth * y).mul_(2).sub_(product).add_(SSIM_C2)
        b2 = local_sum(ninth.mul_(x)).sub_(square).add_(contrast)
        a1 = product.add_(SSIM_C1)
        b1 = square.add_(luminance)
        scale = (b1 * b2).reciprocal_()
        ssim = (a1 * a2).mul_(scale)
        difference = x - y
        error = ssim.mul(-0.5).add_(0.5).clamp_(0, 1).mean(1, keepdim=True).mul_(ssim_weight)
        error.add_(difference.abs().mean(1, keepdim=True), alpha=1 - ssim_weight)
        if ctx.needs_input_grad[0]:
            grad_mean = (b2 - b1).mul_(ssim).mul_(mean_x).mul_(-2).addcmul_(a2.sub_(a1), mean_y).mul_(scale)
            grad_xx = (b1 * ssim).mul_(scale).neg_()
            grad_xy = a1.mul_(scale).mul_(2)
            # One where the clamp lets the gradient through, -1 <= SSIM <= 1, else zero: faster on a CPU than booleans.
            inside = ssim.abs_().neg_().add_(1).sign_().add_(1).clamp_(max=1)
            ctx.save_for_backward(x, y, grad_mean, grad_xx, grad_xy, inside, difference)
            ctx.ssim_weight = ssim_weight
        return error

    @staticmethod
    def backward(ctx, grad_error):
        x, y, grad_mean, grad_xx, grad_xy, inside, difference = ctx.saved_tensors
        grad_error = grad_error / x.shape[1]
        grad_ssim = inside * (grad_error * (-0.5 / 9 * ctx.ssim_weight))  # and the ninth of each local mean
        grad_x = local_sum_adjoint(grad_xx * grad_ssim).mul_(x).mul_(2)
        grad_x += local_sum_adjoint(grad_mean * grad_ssim)
        grad_x.addcmul_(y, local_sum_adjoint(grad_xy * grad_ssim))
        grad_x += difference.sign().mul_(grad_error * (1 - ctx.ssim_weight))
        return grad_x, None, None, None, None, None


def local_sum(x):
    """Return the sum over each pixel's 3x3 window, (..., H, W), of a map reflected at its border."""
    return _sum_of_three(_sum_of_three(x, -1), -2)


def local_sum_adjoint(gradient):
    """Return the transpose of `local_sum` applied to (..., H, W)."""
    return _sum_of_three_adjoint(_sum_of_three_adjoint(gradient, -2), -1)


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
