"""The arithmetic of items as a batch operation on the training device: mirroring, the pyramid of scales, colour jitter.

Data sets with `on_device=True` hand out frames as bytes with their random draws; `complete` turns a batch of those into
what the same data sets would have made by themselves: colours to the bit, jittered colours to rounding.
"""

import functools

import numpy as np
import torch

from datasets import jitter, lanczos


def complete(batch, wanted):
    """Complete a batch on its device.

    Args:
        batch: collated items; batches of other data sets pass through.
        wanted: the data set's `wanted`, {"color": {frame: scales}, "color_aug": {frame: scales}}.

    Returns:
        A new dict with the conventional keys, without "flip" and ("jitter", frame).
    """
    if "flip" not in batch:
        return batch
    result = {key: value for key, value in batch.items() if key != "flip" and key[0] not in ("color", "jitter")}
    flip = batch["flip"].view(-1, 1, 1, 1)
    for frame, plain in wanted["color"].items():
        augmented = wanted["color_aug"][frame]
        if not plain and not augmented:
            continue
        pixels = batch["color", frame, 0]
        level = torch.where(flip, pixels.flip(-1), pixels).float()
        for scale in range(1 + max(plain + augmented)):
            if scale:
                level = resize(level, pixels.shape[-2] // 2**scale, pixels.shape[-1] // 2**scale)
            colour = level / 255
            if scale in plain:
                result["color", frame, scale] = colour
            if scale in augmented:
                result["color_aug", frame, scale] = _jittered(colour, batch["jitter", frame])
    return result


def _jittered(images, tables):
    if images.device.type != "cpu":
        return jitter.apply_batch(images, tables)
    return torch.stack([jitter.apply(image, table) for image, table in zip(images, tables, strict=True)])


def resize(images, height, width):
    """Resize a batch as `datasets.lanczos` does, to the bit.

    Args:
        images: (B, 3, H, W) float32 whole numbers, 0 to 255.
        height, width: wanted.

    Returns:
        (B, 3, height, width) float32 whole numbers.
    """
    if images.device.type == "cpu":
        return torch.from_numpy(np.stack([lanczos.resize(image, height, width) for image in images.numpy()]))
    images = images.double()  # in which all the sums are exact
    if width != images.shape[-1]:
        images = _rounded(images @ _matrix(images.shape[-1], width, images.device).T)
    if height != images.shape[-2]:
        images = _rounded(_matrix(images.shape[-2], height, images.device) @ images)
    return images.float()


def _rounded(values):
    return values.add_(0.5).floor_().clamp_(0, 255)


@functools.lru_cache(maxsize=64)
def _matrix(size, new_size, device):
    """Return the (new_size, size) float64 matrix that resizes a line of pixels."""
    matrix = np.zeros((new_size, size))
    for block in lanczos.blocks(size, new_size)[0]:
        weights = block.high.astype(np.float64) + block.low.astype(np.float64) / lanczos.HALF
        matrix[block.start : block.stop, block.first : block.last] = weights.T
    return torch.from_numpy(matrix).to(device)
