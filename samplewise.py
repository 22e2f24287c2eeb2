"""Losses of a batch taken one sample and one term at a time, each with its gradient at once.

On a CPU the dense maps of one sample stay in the cache, and no map outlives its term: the graph from the networks'
outputs to the losses shrinks to the gradients by these outputs. Only means over the batch can be taken so.
"""

import torch


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
    return losses, {key: torch.cat([each[key] for each in maps]) for key in maps[0]}


class _MeanLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, terms, keys, names, maps, *tensors):
        count, values = len(tensors[0]), []
        gradients = []  # one list a term, a tensor or None for each of `tensors`
        for index in range(count):
            with torch.enable_grad():
                leaves = [tensor[index : index + 1].detach().requires_grad_() for tensor in tensors]
                maps.append({})
                for number, (name, loss, own) in enumerate(terms(index, dict(zip(keys, leaves, strict=True)))):
                    if index == 0:
                        names.append(name)
                        values.append(0.0)
                        gradients.append([None] * len(tensors))
                    maps[index].update((key, each.detach()) for key, each in own.items())
                    values[number] = values[number] + loss.detach() / count
                    for place, part in enumerate(torch.autograd.grad(loss, leaves, allow_unused=True)):
                        if part is not None:
                            _store(gradients[number], place, tensors[place], index, part / count)
        ctx.gradients = gradients
        return torch.stack(values)

    @staticmethod
    def backward(ctx, by_values):
        weights = by_values.tolist()
        results = []
        for parts in zip(*ctx.gradients, strict=True):
            weighted = [part * weight for part, weight in zip(parts, weights, strict=True) if part is not None]
            results.append(sum(weighted[1:], weighted[0]) if weighted else None)
        return None, None, None, None, *results


def _store(gradients, place, tensor, index, part):
    if gradients[place] is None:
        gradients[place] = torch.zeros_like(tensor)
    gradients[place][index] = part[0]
