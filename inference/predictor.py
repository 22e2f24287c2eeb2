"""Prediction with trained weights: a `Predictor` maps images to disparity and depth.

    from inference import Predictor
    depth = Predictor("lite-mono_640x192").depth("street.jpg")
"""

import numpy as np
import torch

from checkpointing.fetched import weights_folder
from checkpointing.files import check_finite
from checkpointing.folders import load_depth_network
from checkpointing.metric_scale import read_metric_scale
from cpu.allocator import keep_freed_memory
from inference.folded import FoldedDepthNetwork
from inference.images import enlarge, network_values, to_image
from inference.post_processing import batch_post_process_disparity
from inference.replay import Replayed
from layers import disp_to_depth
from system import memory
from system.devices import choose_device
from system.errors import UserError

PRECISIONS = ("float32", "float16", "bfloat16")
BYTES_A_PIXEL = 100  # that a prediction takes on a CPU at the very least; lite-mono-tiny measured 150


class Predictor:
    """Depth prediction with the weights of a folder.

    Args:
        weights: a folder that holds encoder.pth and depth.pth, or a published name, fetched once.
        model: name of the Lite-Mono model, a key of `networks.model_table.MODELS`; without, what the weights are.
        device: torch device or its name; without, the best of this machine.
        fast: use `inference.folded`; otherwise the networks as they are trained.
        dilations: three tuples that replace those stored with the weights.
        graphs: on a CUDA device, record one CUDA graph per input shape and replay it; without, only for batches of 1.
        metric: give depth in metres, by the factor that calibrate_scale.py stored in the folder.
        precision: "float32", or "float16" or "bfloat16" for all but attention and the head, which stay in float32.
        compiled: put the network through torch.compile; the first prediction of each shape then takes long.

    Attributes:
        metric_scale: the `MetricScale` that is applied, or None.
        height, width: of the images that the weights were trained with.
        network: the `checkpointing.folders.DepthNetwork` that was loaded.

    Raises:
        system.errors.UserError: the folder or its files are missing, broken or of another model.
    """

    def __init__(self, weights, model=None, device=None, fast=True, dilations=None, graphs=None, metric=False,
                 precision="float32", compiled=False):  # fmt: skip
        if precision not in PRECISIONS:
            raise UserError("no such precision", precision, f"give one of {', '.join(PRECISIONS)}")
        self.device = device if isinstance(device, torch.device) else choose_device(name=device)
        if self.device.type == "cpu":
            keep_freed_memory()
        folder = weights_folder(weights)
        network = load_depth_network(folder, model, dilations=dilations)
        self.metric_scale = read_metric_scale(folder) if metric else None
        check_finite(folder, network.encoder, network.decoder)
        if 0 not in network.decoder.scales:
            raise UserError("the weights predict no disparity at full size", folder, "train with scale 0 in --scales")
        self.model, self.height, self.width = network.model, network.height, network.width
        dtype = getattr(torch, precision)
        if fast:
            # folded on the CPU, in float64, which not every device has
            folded = FoldedDepthNetwork(network.encoder, network.decoder).eval()
            folded = folded if dtype == torch.float32 else folded.reduced(dtype)
            self._run = folded.to(self.device)
        else:
            self._run = plain_disparity(network.encoder, network.decoder, dtype)
        network.encoder.to(self.device), network.decoder.to(self.device)
        self.network = network
        if compiled:
            self._run = torch.compile(self._run)
        if graphs is not False and self.device.type == "cuda":
            self._run = Replayed(self._run, single_only=graphs is None)

    @torch.inference_mode()
    def predict(self, images):
        """Return the network's sigmoid disparity (B, 1, H, W) in (0, 1), on the predictor's device.

        Args:
            images: (B, 3, H, W) float32 in [0, 1]; H and W multiples of 32.
        """
        if self.device.type == "cpu":
            count, _, height, width = images.shape
            fix = "lower --batch_size" if count > 1 else "use weights of a smaller size"
            memory.refuse_beyond(count * height * width * BYTES_A_PIXEL, f"{count} x {width}x{height} pixels", fix)
        return self._run(images.to(self.device, non_blocking=True))

    @torch.inference_mode()
    def predict_post_processed(self, images):
        """As `predict`, blended with the prediction for the mirrored images; (B, 1, H, W) float64 on the CPU."""
        images = images.to(self.device)
        both = self.predict(torch.cat((images, images.flip(3)))).cpu().numpy()[:, 0]
        left, right = both[: len(images)], both[len(images) :, :, ::-1]
        return torch.from_numpy(batch_post_process_disparity(left, right))[:, None]

    def scaled_disparity(self, images):
        """Return scaled disparity, the inverse of depth (metres with `metric`): (B, 1, H, W) float32 array.

        Args:
            images: as `predict`, or a numpy array.

        Raises:
            UserError: it is not finite.
        """
        scaled, _ = disp_to_depth(self.predict(torch.as_tensor(images)), *self.network.depth_range)
        scaled = scaled.float().cpu().numpy()
        if self.metric_scale:
            scaled = scaled / np.float32(self.metric_scale.factor)
        if not np.isfinite(scaled).all():
            raise UserError("the predicted disparity is not finite", f"{self.model} weights", "choose other weights")
        return scaled

    def disparity(self, image):
        """Return scaled disparity (h, w) float32, the inverse of `depth`, at the image's own size.

        Args:
            image: a path, a PIL image, or an array (h, w, 3) or (h, w): uint8, or floats in [0, 1].

        Raises:
            UserError: the image is missing or damaged, or the array is no image.
        """
        image = to_image(image)
        scaled = self.scaled_disparity(network_values(image, self.height, self.width))
        return enlarge(scaled[0, 0], image.height, image.width)

    def depth(self, image):
        """Return depth (h, w) float32 at the image's own size, in the weights' unit: relative, without `metric`.

        Args:
            image: as `disparity`.
        """
        return 1 / self.disparity(image)


def plain_disparity(encoder, decoder, dtype=torch.float32):
    """Return the function images (B, 3, H, W) -> disparity (B, 1, H, W) of the networks as they are.

    Args:
        dtype: of autocast, which leaves the head in float32; none where it is float32.
    """

    def run(images):
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            return decoder(encoder(images))[("disp", 0)]

    return run
