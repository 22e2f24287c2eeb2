"""What a depth network costs: parameters and multiply-adds, by torch's own counter."""

import copy
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
    """Return the `Cost` for one image (3, height, width), in convolutions and matrix products; nothing is computed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    encoder, decoder = (copy.deepcopy(network).to("meta").eval() for network in (encoder, decoder))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(encoder(torch.empty(1, 3, height, width, device="meta")))
    return Cost(count_parameters(encoder), count_parameters(decoder), counter.get_total_flops() // 2)


def count_parameters(network):
    """Return how many numbers a network's weights file holds, BatchNorm's statistics left out."""
    state = network.state_dict()
    return sum(value.numel() for key, value in state.items() if key.rpartition(".")[2] not in _STATISTICS)
