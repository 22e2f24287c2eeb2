"""The per-pixel network of Lite-Mono's blocks, Linear, exact GELU, Linear, with its gradient written out for CPUs.

The hidden layer is six times as wide as the features. `PixelNetwork` never holds more of it than fits into a core's
cache and keeps only its input for the backward pass, which makes the hidden layer again; automatic differentiation of
`plain_pixel_network` keeps two copies of it for every block. Both give the same numbers.
"""

import torch
import torch.nn.functional as F

from cpu import training_on_cpu

_CACHE_BYTES = 1 << 20  # of hidden activations that a core works on at a time: about a second-level cache


def pixel_network(x, first, first_bias, second, second_bias):
    """Return `plain_pixel_network` of the same arguments, by the way that suits device and number format."""
    if not training_on_cpu(x, "pixel_network"):
        return plain_pixel_network(x, first, first_bias, second, second_bias)
    out = PixelNetwork.apply(x.reshape(-1, x.shape[-1]), first, first_bias, second, second_bias)
    return out.view(x.shape)


def plain_pixel_network(x, first, first_bias, second, second_bias):
    """Return second @ gelu(first @ x + first_bias) + second_bias for every pixel of x (..., C); first: (6C, C)."""
    return F.linear(F.gelu(F.linear(x, first, first_bias)), second, second_bias)


class PixelNetwork(torch.autograd.Function):
    """`plain_pixel_network` of x (N, C)."""

    @staticmethod
    def forward(ctx, x, first, first_bias, second, second_bias):
        ctx.save_for_backward(x, first, first_bias, second)
        out = torch.empty_like(x)
        hidden, blocks = _blocks(x, first)
        for part in blocks:
            inner = torch.addmm(first_bias, x[part], first.t(), out=hidden[: part.stop - part.start])
            torch.addmm(second_bias, torch.ops.aten.gelu_(inner), second.t(), out=out[part])
        return out

    @staticmethod
    def backward(ctx, grad_out):
        x, first, first_bias, second = ctx.saved_tensors
        grad_out = grad_out.contiguous()
        grad_x, grad_first, grad_second = torch.empty_like(x), torch.zeros_like(first), torch.zeros_like(second)
        grad_first_bias = torch.zeros_like(first_bias)
        hidden, blocks = _blocks(x, first)
        activated, grad_hidden_block = torch.empty_like(hidden), torch.empty_like(hidden)
        for part in blocks:
            rows = part.stop - part.start
            inner, active, grad_inner = hidden[:rows], activated[:rows], grad_hidden_block[:rows]
            torch.addmm(first_bias, x[part], first.t(), out=inner)
            torch.ops.aten.gelu.out(inner, out=active)
            grad_second.addmm_(grad_out[part].t(), active)
            torch.mm(grad_out[part], second, out=active)
            torch.ops.aten.gelu_backward.grad_input(active, inner, grad_input=grad_inner)
            grad_first.addmm_(grad_inner.t(), x[part])
            grad_first_bias += grad_inner.sum(0)
            torch.mm(grad_inner, first, out=grad_x[part])
        return grad_x, grad_first, grad_first_bias, grad_second, grad_out.sum(0)


def _blocks(x, first):
    """Return a buffer for the hidden layer of one block of pixels, and the blocks as slices of almost equal length."""
    fitting = max(1, _CACHE_BYTES * torch.get_num_threads() // (first.shape[0] * first.element_size()))
    count = max(1, round(len(x) / fitting))
    length = max(1, -(-len(x) // count))
    slices = [slice(start, min(start + length, len(x))) for start in range(0, len(x), length)]
    return x.new_empty(min(length, len(x)), first.shape[0]), slices
