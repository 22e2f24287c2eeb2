"""Matrix products as GPUs with TF32 take them: factors rounded to ten bits of mantissa, sums in float32."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def rounded(x):
    """Return a float32 tensor rounded to TF32, half to even; others as they are."""
    if x.dtype != torch.float32:
        return x
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class RoundedProducts(TorchDispatchMode):
    """While entered, factors of matrix products are rounded: all, or those for which `chosen()` is true.

    Attributes:
        count: products that were rounded.
    """

    PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot"}

    def __init__(self, chosen=lambda: True):
        super().__init__()
        self.chosen, self.count = chosen, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name.split("::")[1] in self.PRODUCTS and self.chosen():
            self.count += 1
            args = tuple(rounded(each) if isinstance(each, torch.Tensor) else each for each in args)
        return function(*args, **(kwargs or {}))
