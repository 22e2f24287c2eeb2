"""Losses of a batch on a CPU: one sample and one term at a time, each with its gradient at once.

The dense maps of one sample stay in the cache, and no map outlives its term: the graph from the networks' outputs to
the losses shrinks to the gradients with respect to these outputs. Only means over the batch can be taken so.
"""

import torch

from cpu import threads, training_on_cpu


def mean_losses(terms, given, predicted, *more):
    """Return (maps, losses) of a batch.

    Args:
        terms: function (given, predicted, *more) -> iterable of (name, scalar loss: a mean over samples, {key: map}).
            It is resumed after the gradient of a term was taken, so that a generator need not hold its maps.
        given: {key: tensor (B, ...) or other value}, which has no gradient.
        predicted: {key: tensor (B, ...)} that the losses depend on.

    Returns:
        ({key: map (B, ...)}, {name: mean over the samples}, differentiable in `predicted`). Taken sample by sample,
        the maps are not differentiable.
    """
    if training_on_cpu(next(iter(predicted.values())), "per_sample"):
        return _sample_by_sample(terms, given, predicted, more)
    maps, losses = {}, {}
    for name, loss, own in terms(given, predicted, *more):
        losses[name] = loss
        maps.update(own)
    return maps, losses


def _sample_by_sample(terms, given, predicted, more):
    def terms_of(index, leaves):
        own = {key: each[index : index + 1] for key, each in given.items() if isinstance(each, torch.Tensor)}
        return terms(own, dict(zip(predicted, leaves, strict=True)), *more)

    names, maps = [], []
    values = _MeanLosses.apply(terms_of, names, maps, *predicted.values())
    losses = dict(zip(names, values.unbind(), strict=True))
    return {key: torch.cat([each.pop(key) for each in maps]) for key in list(maps[0])}, losses


class _MeanLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, terms_of, names, maps, *tensors):
        samples = threads.each(lambda index: _Sample(terms_of, tensors, index), range(len(tensors[0])))
        names += samples[0].names
        maps += [sample.maps for sample in samples]
        by_term = list(zip(*(sample.gradients for sample in samples), strict=True))  # [term][sample][tensor]
        ctx.gradients = [[_joined(parts) for parts in zip(*term, strict=True)] for term in by_term]
        return torch.stack([sum(values) / len(samples) for values in zip(*(s.values for s in samples), strict=True)])

    @staticmethod
    def backward(ctx, grad_values):
        weights = grad_values.tolist()
        results = []
        for parts in zip(*ctx.gradients, strict=True):
            weighted = [part * weight for part, weight in zip(parts, weights, strict=True) if part is not None]
            results.append(sum(weighted[1:], weighted[0]) if weighted else None)
        return None, None, None, *results


class _Sample:
    """The terms of one sample: names, values, gradients by each of `tensors` (None where there is none), and maps."""

    def __init__(self, terms_of, tensors, index):
        self.names, self.values, self.gradients, self.maps = [], [], [], {}
        with torch.enable_grad():
            leaves = [tensor[index : index + 1].detach().requires_grad_() for tensor in tensors]
            for name, loss, own in terms_of(index, leaves):
                self.names.append(name)
                self.values.append(loss.detach())
                self.gradients.append(torch.autograd.grad(loss, leaves, allow_unused=True))
                self.maps.update((key, each.detach()) for key, each in own.items())


def _joined(parts):
    return None if parts[0] is None else torch.cat(parts) / len(parts)
