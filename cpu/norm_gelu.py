"""BatchNorm and exact GELU with one map less kept for the backward pass, for training on CPUs.

Automatic differentiation keeps the input of each; the GELU's follows from the norm's by a scale and a shift a channel.
"""

import torch
import torch.nn.functional as F
from torch import nn


def norm_and_gelu(norm, x):
    """Return gelu(norm(x)) of a BatchNorm and a map (B, C, H, W)."""
    plain = x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    if plain or not torch.is_grad_enabled() or not norm.training or type(norm) is not nn.BatchNorm2d:
        return F.gelu(norm(x))
    norm.num_batches_tracked.add_(1)
    return NormGELU.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)


class NormGELU(torch.autograd.Function):
    """BatchNorm by the batch's own statistics, which the running ones follow, then GELU."""

    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps):
        y, mean, inverse_std = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse_std)
        ctx.eps = eps
        return torch.ops.aten.gelu_(y)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, bias, mean, inverse_std = ctx.saved_tensors
        scale = weight * inverse_std
        y = torch.addcmul((bias - mean * scale)[:, None, None], x, scale[:, None, None])
        by_y = torch.ops.aten.gelu_backward.grad_input(gradient, y, grad_input=y)
        by_x, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            by_y, x, weight, None, None, mean, inverse_std, True, ctx.eps, [True, True, True]
        )
        return by_x, by_weight, by_bias, None, None, None, None
