"""Lite-Mono for torch.hub: depth of an image in any project.

    model = torch.hub.load(REPO, "lite_mono", source="local")
    depth = model.depth("street.jpg")

The project's modules are imported apart from the caller's: no name such as datasets or options is left in sys.modules,
and sys.path is as it was.
"""

import contextlib
import os
import sys
import threading

import torch

dependencies = ["torch", "numpy", "PIL"]

_ROOT = os.path.dirname(os.path.abspath(__file__))
_LOCK = threading.RLock()
_own_modules = {}  # what the project has imported, kept here between calls


@contextlib.contextmanager
def _project():
    """Let imports find the project's modules, and nobody else's of these names, within the block."""
    names = {name.removesuffix(".py") for name in os.listdir(_ROOT)} - {"hubconf"}

    def taken():
        return {name: sys.modules[name] for name in list(sys.modules) if name.partition(".")[0] in names}

    with _LOCK:
        path, theirs = list(sys.path), taken()
        for name in theirs:
            del sys.modules[name]
        sys.modules.update(_own_modules)
        sys.path.insert(0, _ROOT)
        try:
            yield
        finally:
            _own_modules.update(taken())
            for name in taken():
                del sys.modules[name]
            sys.modules.update(theirs)
            sys.path[:] = path


class LiteMonoDepth(torch.nn.Module):
    """A trained depth network.

    Attributes:
        height, width: of the images that the weights were trained with.
    """

    def __init__(self, weights, model, device):
        super().__init__()
        with _project():
            from inference import Predictor

            self._predictor = Predictor(weights, model, device)
        self.height, self.width = self._predictor.height, self._predictor.width

    def forward(self, images):
        """Return sigmoid disparity (B, 1, H, W) of images (B, 3, H, W) in [0, 1]; H and W multiples of 32."""
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(f"images are (B, 3, H, W), H and W multiples of 32, not {tuple(images.shape)}")
        return self._predictor.predict(images)

    def disparity(self, image):
        """Return (h, w) float32, the inverse of `depth`, of an image: path, PIL image, or array of uint8 or [0, 1]."""
        with _project():
            return self._predictor.disparity(image)

    def depth(self, image):
        """Return depth (h, w) float32 at the image's own size; relative, unless the weights are metric."""
        with _project():
            return self._predictor.depth(image)


def lite_mono(weights=None, size="640x192", device=None):
    """Lite-Mono, 3.1 M parameters.

    Args:
        weights: a weights folder or a published name; by default the published weights, fetched once.
        size: 640x192 or 1024x320, of the published weights.
        device: cpu, cuda, cuda:1 or mps; by default the best of this machine.
    """
    return LiteMonoDepth(weights or f"lite-mono_{size}", "lite-mono", device)


def lite_mono_small(weights=None, size="640x192", device=None):
    """Lite-Mono-small, 2.5 M parameters; arguments as `lite_mono`."""
    return LiteMonoDepth(weights or f"lite-mono-small_{size}", "lite-mono-small", device)


def lite_mono_tiny(weights=None, size="640x192", device=None):
    """Lite-Mono-tiny, 2.1 M parameters; arguments as `lite_mono`."""
    return LiteMonoDepth(weights or f"lite-mono-tiny_{size}", "lite-mono-tiny", device)


def lite_mono_8m(weights=None, size="640x192", device=None):
    """Lite-Mono-8M, 8.8 M parameters; arguments as `lite_mono`."""
    return LiteMonoDepth(weights or f"lite-mono-8m_{size}", "lite-mono-8m", device)
