"""Losses of a batch taken one sample and one term at a time, each with its gradient at once.

On a CPU the dense maps of one sample stay in the cache, and no map outlives its term: the graph from the networks'
outputs to the losses shrinks to the gradients by these outputs. Only means over the batch can be taken so.
"""

import torch

from cpu import threads


def suits(tensor):
    """Return whether losses of this tensor are best taken sample by sample: when training on a CPU."""
    # A GPU wants large kernels instead, and torch.compile fuses the maps by itself.
    return tensor.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def mean_losses(terms, predictions):
    """Return the named losses of a batch, and maps.

    Args:
        terms: function (index of the sample, {key: tensor (1, ...)}) -> iterable of (name, scalar loss, {key: map}).
            It is resumed after the gradient of a term was taken, so that a generator need not hold its maps.
        predictions: {key: tensor (B, ...)} that the losses depend on.

    Returns:
        ({name: mean over the samples}, differentiable by the predictions; {key: map (B, ...)}, not differentiable).
    """
    names, maps = [], []
    values = _MeanLosses.apply(terms, tuple(predictions), names, maps, *predictions.values())
    losses = dict(zip(names, values.unbind(), strict=True))
    return losses, {key: torch.cat([each.pop(key) for each in maps]) for key in list(maps[0])}


class _MeanLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, terms, keys, names, maps, *tensors):
        samples = threads.each(lambda index: _Sample(terms, keys, tensors, index), range(len(tensors[0])))
        names += samples[0].names
        maps += [sample.maps for sample in samples]
        by_term = list(zip(*(sample.gradients for sample in samples), strict=True))  # [term][sample][tensor]
        ctx.gradients = [[_joined(parts) for parts in zip(*term, strict=True)] for term in by_term]
        return torch.stack([sum(values) / len(samples) for values in zip(*(s.values for s in samples), strict=True)])

    @staticmethod
    def backward(ctx, by_values):
        weights = by_values.tolist()
        results = []
        for parts in zip(*ctx.gradients, strict=True):
            weighted = [part * weight for part, weight in zip(parts, weights, strict=True) if part is not None]
            results.append(sum(weighted[1:], weighted[0]) if weighted else None)
        return None, None, None, None, *results


class _Sample:
    """The terms of one sample: names, values, gradients by each of `tensors` (None where there is none), and maps."""

    def __init__(self, terms, keys, tensors, index):
        self.names, self.values, self.gradients, self.maps = [], [], [], {}
        with torch.enable_grad():
            leaves = [tensor[index : index + 1].detach().requires_grad_() for tensor in tensors]
            for name, loss, own in terms(index, dict(zip(keys, leaves, strict=True))):
                self.names.append(name)
                self.values.append(loss.detach())
                self.gradients.append(torch.autograd.grad(loss, leaves, allow_unused=True))
                self.maps.update((key, each.detach()) for key, each in own.items())


def _joined(parts):
    return None if parts[0] is None else torch.cat(parts) / len(parts)
