"""What work asks of a device: its operations and the bytes that they read and write, by stage."""

import collections

import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

# Operations that only describe memory anew, or take some without writing to it.
FREE = {
    "view", "_unsafe_view", "expand", "permute", "t", "transpose", "slice", "select", "unsqueeze", "squeeze", "detach",
    "alias", "unbind", "split", "split_with_sizes", "narrow", "as_strided", "diagonal", "lift_fresh", "_reshape_alias",
    "expand_as", "view_as", "chunk", "unfold", "empty", "empty_like", "new_empty", "empty_strided",
    "new_empty_strided", "is_pinned", "record_stream",
}  # fmt: skip


def tensors(tree):
    """Return the tensors in nested values."""
    return [each for each in _pytree.tree_leaves(tree) if isinstance(each, torch.Tensor)]


def bytes_moved(name, ins, outs, device_type):
    """Return the bytes that the operation `name` reads and writes on devices of a type."""
    read = [] if name.startswith("new_") or name.endswith("_like") else ins  # these look at the shape alone
    return sum(each.numel() * each.element_size() for each in read + outs if each.device.type == device_type)


class Traffic(TorchDispatchMode):
    """Counts while entered, under the stage that `stage` holds.

    Gradients are counted where autograd computes them in this thread (`set_multithreading_enabled(False)`).

    Args:
        device: torch.device that is looked at.

    Attributes:
        operations, bytes: {stage: number}.
    """

    def __init__(self, device):
        super().__init__()
        self.kind, self.stage = device.type, "rest"
        self.operations, self.bytes = collections.Counter(), collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        space, name = function._schema.name.split("::")
        ins, outs = tensors((args, kwargs)), tensors(result)
        if space != "prim" and name not in FREE and any(each.device.type == self.kind for each in ins + outs):
            self.operations[self.stage] += 1
            self.bytes[self.stage] += bytes_moved(name, ins, outs, self.kind)
        return result
