"""CUDA graphs of a network: its launches are recorded once for each input shape and replayed as one.

At batch 1 a GPU is done with a kernel before the host has launched the next one.
"""

import logging

import torch

MOST_SHAPES = 4  # graphs at a time; each keeps the memory of a whole pass
WARM_UP = 3  # passes in which cuDNN chooses its kernels before they are recorded

log = logging.getLogger(__name__)


class Replayed:
    """A function of one tensor, recorded as a CUDA graph for each input shape; the oldest of too many is dropped.

    Args:
        function: images (B, 3, H, W) on the device to disparity (B, 1, H, W).
        single_only: record images of batch 1 alone, and where that fails say so and go on without.
    """

    def __init__(self, function, single_only=False):
        self.function, self.single_only, self.graphs, self.works = function, single_only, {}, True

    def __call__(self, images):
        shape = tuple(images.shape)
        if not self.works or (self.single_only and shape[0] != 1):
            return self.function(images)
        if shape not in self.graphs:
            try:
                recorded = self._record(images)
            except RuntimeError as error:
                if not self.single_only:
                    raise
                log.warning("no CUDA graph could be recorded, so predictions go on without: %s", error)
                self.works = False
                return self.function(images)
            if len(self.graphs) == MOST_SHAPES:
                del self.graphs[next(iter(self.graphs))]
            self.graphs[shape] = recorded
        graph, given, result = self.graphs[shape]
        given.copy_(images)
        graph.replay()
        return result.clone()

    def _record(self, images):
        given = images.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.function(given)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.function(given)
        return graph, given, result
