"""The arithmetic of items as a batch operation on the training device: mirroring, the pyramid of scales, colour jitter.

Data sets with `on_device=True` hand out frames as bytes with their random draws; `complete` turns a batch of those into
what the same data sets would have made by themselves: to the bit on a CPU, jittered colours to rounding on a GPU.
"""

import functools

import numpy as np
import torch

from datasets import jitter, lanczos


def complete(batch, wanted, apply_batch=jitter.apply_batch):
    """Complete a batch on its device.

    Args:
        batch: collated items; batches of other data sets pass through.
        wanted: the data set's `wanted`, {"color": {frame: scales}, "color_aug": {frame: scales}}.
        apply_batch: `jitter.apply_batch`, or the same compiled.

    Returns:
        A new dict with the conventional keys, without "flip" and ("jitter", frame).
    """
    if "flip" not in batch:
        return batch
    result = {key: value for key, value in batch.items() if key != "flip" and key[0] not in ("color", "jitter")}
    scales = {frame: (*plain, *wanted["color_aug"][frame]) for frame, plain in wanted["color"].items()}
    frames = [frame for frame, own in scales.items() if own]
    pixels = torch.stack([batch["color", frame, 0] for frame in frames])  # (frames, B, 3, H, W)
    pixels = torch.where(batch["flip"].view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    colours = pixels / 255
    plain = {(frame, 0): colour for frame, colour in zip(frames, colours, strict=True)}
    for frame, own in zip(frames, pixels, strict=True):
        level = own.float() if max(scales[frame]) else None
        for scale in range(1, 1 + max(scales[frame])):
            level = resize(level, own.shape[-2] // 2**scale, own.shape[-1] // 2**scale)
            plain[frame, scale] = level / 255
    for frame, scale in plain:
        if scale in wanted["color"][frame]:
            result["color", frame, scale] = plain[frame, scale]
    for scale in range(1 + max(map(max, (scales[frame] for frame in frames)))):
        augmented = [frame for frame in frames if scale in wanted["color_aug"][frame]]
        if augmented:  # all frames in one pass
            whole = scale == 0 and augmented == frames
            images = colours.flatten(0, 1) if whole else torch.cat([plain[frame, scale] for frame in augmented])
            tables = torch.cat([batch["jitter", frame] for frame in augmented])
            images = _jittered(images, tables, apply_batch).chunk(len(augmented))
            result |= {("color_aug", frame, scale): each for frame, each in zip(augmented, images, strict=True)}
    return result


def _jittered(images, tables, apply_batch):
    if images.device.type != "cpu":
        return apply_batch(images, tables)
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
    return resize_by_products(images, height, width)


def resize_by_products(images, height, width):
    """As `resize`, by matrix products. Factors below 1 have 11 bits, so that even TF32 takes them as they are."""
    if lanczos.columns_first(images.shape[-2:], (height, width)):
        return _along_rows(_along_columns(images, height), width)
    return _along_columns(_along_rows(images, width), height)


def _along_rows(images, width):
    if width == images.shape[-1]:
        return images
    high, low = _matrices(images.shape[-1], width, images.device)
    return _rounded(images @ high.T, images @ low.T)


def _along_columns(images, height):
    if height == images.shape[-2]:
        return images
    high, low = _matrices(images.shape[-2], height, images.device)
    return _rounded(high @ images, low @ images)


def _rounded(high, low):
    return low.floor_().mul_(1 / lanczos.HALF).add_(high).add_(0.5).floor_().clamp_(0, 255)


@functools.lru_cache(maxsize=64)
def _matrices(size, new_size, device):
    """Return both halves, (new_size, size) float32, of the matrix that resizes a line of pixels."""
    halves = np.zeros((2, new_size, size), np.float32)
    for block in lanczos.blocks(size, new_size)[0]:
        for half, weights in zip(halves, (block.high, block.low), strict=True):
            half[block.start : block.stop, block.first : block.last] = weights.T
    return torch.from_numpy(halves).to(device).unbind()
