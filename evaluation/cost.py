"""What a depth network costs: parameters and multiply-adds, by the formulas of torch's own counter."""

from typing import NamedTuple

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Cost(NamedTuple):
    """Numbers in the weights file (BatchNorm's statistics left out), and multiply-adds of one image."""

    encoder_parameters: int
    decoder_parameters: int
    multiply_adds: int

    def __str__(self):
        total = self.encoder_parameters + self.decoder_parameters
        return (
            f"parameters: {total / 1e6:.3f} M (encoder {self.encoder_parameters / 1e6:.3f}, "
            f"decoder {self.decoder_parameters / 1e6:.3f}); multiply-adds: {self.multiply_adds / 1e9:.2f} G"
        )


def network_cost(encoder, decoder, height, width):
    """Return the `Cost` of networks for one image (3, height, width), as they predict: in eval mode for the while."""
    import torch

    image = torch.zeros(1, 3, height, width, device=next(encoder.parameters()).device)
    modes = {network: network.training for network in (encoder, decoder)}
    try:
        multiply_adds = count_multiply_adds(lambda: decoder.eval()(encoder.eval()(image)))
    finally:
        for network, trains in modes.items():
            network.train(trains)
    return Cost(count_parameters(encoder), count_parameters(decoder), multiply_adds)


def count_parameters(network):
    """Return how many numbers a network's weights file holds, BatchNorm's statistics left out."""
    state = network.state_dict()
    return sum(value.numel() for key, value in state.items() if key.rpartition(".")[2] not in _STATISTICS)


def count_multiply_adds(run):
    """Return the multiply-adds of the convolutions and matrix products that calling `run` performs.

    The formulas are `torch.utils.flop_counter`'s; its `FlopCounterMode` itself also follows modules, for which it loads
    torch's distributed tensors: some seconds for one number.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        flops = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            formula = flop_registry.get(function.overloadpacket)
            if formula is not None:
                self.flops += formula(*args, **(kwargs or {}), out_val=out)
            return out

    with torch.no_grad(), Counter() as counter:
        run()
    return counter.flops // 2
