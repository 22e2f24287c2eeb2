"""The job of `benchmark.worker` that predicts disparity: the networks as the paper draws them, or folded."""

import torch

from benchmark.plain import depth_network
from cpu.allocator import keep_freed_memory
from inference.folded import FoldedDepthNetwork
from networks import DepthDecoder, LiteMono
from system.devices import choose_device

VERSIONS = ("plain", "folded")


def make(version, model, height, width, batch, no_cuda):
    """Return the function that predicts disparity for a batch, and the device."""
    device = choose_device(no_cuda)
    torch.manual_seed(0)
    encoder = LiteMono(model, height, width).to(device).eval()
    decoder = DepthDecoder(encoder.num_ch_enc).to(device).eval()
    images = torch.rand(batch, 3, height, width, device=device)
    if version == "plain":
        torch.set_default_device(device)  # for the positions that the plain version makes

        def predict():
            return depth_network.decode(decoder, depth_network.encode(encoder, images))["disp", 0]
    else:
        keep_freed_memory()
        folded = FoldedDepthNetwork(encoder, decoder).to(device).eval()

        def predict():
            return folded(images)

    return torch.inference_mode()(predict), device
