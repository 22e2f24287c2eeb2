"""Prediction with trained weights: a `Predictor` loads a folder and maps images to disparity."""

import torch

from cpu.allocator import keep_freed_memory
from inference.post_processing import batch_post_process_disparity
from system.errors import UserError


class Predictor:
    """Depth prediction with the weights of a folder.

    Args:
        folder: holds encoder.pth and depth.pth.
        model: name of the Lite-Mono model, a key of `networks.model_table.MODELS`.
        device: torch device or its name.
        fast: use `inference.folded`; otherwise the networks as they are trained.
        dilations: three tuples that replace those stored with the weights.
        graphs: on a CUDA device, record one CUDA graph per input shape and replay it.

    Attributes:
        height, width: of the images that the weights were trained with.
        network: the `checkpointing.folders.DepthNetwork` that was loaded.

    Raises:
        errors.UserError: the folder or its files are missing, broken or of another model.
    """

    def __init__(self, folder, model="lite-mono", device="cpu", fast=True, dilations=None, graphs=False):
        from checkpointing.folders import load_depth_network

        self.device = torch.device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.network = load_depth_network(folder, model, device=self.device, dilations=dilations)
        if 0 not in self.network.decoder.scales:
            raise UserError("the weights predict no disparity at full size", folder, "train with scale 0 in --scales")
        self.height, self.width = self.network.height, self.network.width
        self._run = plain_disparity(self.network.encoder, self.network.decoder)
        if fast:
            from inference.folded import FoldedDepthNetwork

            self._run = FoldedDepthNetwork(self.network.encoder, self.network.decoder).to(self.device).eval()
        if graphs and self.device.type == "cuda":
            self._run = _Replayed(self._run)

    @torch.inference_mode()
    def predict(self, images):
        """Return the network's sigmoid disparity (B, 1, H, W) in (0, 1), on the predictor's device.

        Args:
            images: (B, 3, H, W) float32 in [0, 1]; H and W multiples of 32.
        """
        return self._run(images.to(self.device, non_blocking=True))

    @torch.inference_mode()
    def predict_post_processed(self, images):
        """As `predict`, blended with the prediction for the mirrored images; (B, 1, H, W) float64."""
        images = images.to(self.device)
        both = self.predict(torch.cat((images, images.flip(3)))).cpu().numpy()[:, 0]
        left, right = both[: len(images)], both[len(images) :, :, ::-1]
        return torch.from_numpy(batch_post_process_disparity(left, right))[:, None]


def plain_disparity(encoder, decoder):
    """Return the function images (B, 3, H, W) -> disparity (B, 1, H, W) of the networks as they are."""

    def run(images):
        return decoder(encoder(images))[("disp", 0)]

    return run


def choose_device(no_cuda=False):
    """Return the torch device to predict on: the first CUDA device if there is one and it is wanted, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not no_cuda else "cpu")


class _Replayed:
    """A function of one tensor, recorded as a CUDA graph for each input shape."""

    def __init__(self, function):
        self.function, self.graphs = function, {}

    def __call__(self, images):
        shape = tuple(images.shape)
        if shape not in self.graphs:
            self.graphs[shape] = self._record(images)
        graph, given, result = self.graphs[shape]
        given.copy_(images)
        graph.replay()
        return result.clone()

    def _record(self, images):
        given = images.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # lets cuDNN choose its kernels before they are recorded
                self.function(given)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.function(given)
        return graph, given, result
