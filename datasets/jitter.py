"""Colour jitter: brightness, contrast, saturation and hue by random factors, in random order.

The operations are torchvision's `ColorJitter` on float images, clamped to [0, 1] after each. A jitter is a table of
four steps, (4, 4): each row (gain, grey, mean, hue) turns x into clamp(gain * x + grey * g(x) + mean * m(x)), where g
is the image's luma and m the average of g, and then turns the hue by that part of the circle. So a jitter travels as a
small tensor and is applied to one image in a loader process or to a batch on the training device alike.
"""

import numpy as np
import torch

STRENGTH = 0.2  # of brightness, contrast and saturation: factors in 0.8 .. 1.2
HUE = 0.1  # of the circle, either way
LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green, blue
NONE = ((1.0, 0.0, 0.0, 0.0),) * 4


def draw(rng):
    """Draw a jitter.

    Args:
        rng: a `numpy.random.Generator`.

    Returns:
        (4, 4) float32 array, one row per step.
    """
    brightness, contrast, saturation = rng.uniform(1 - STRENGTH, 1 + STRENGTH, 3)
    return steps(brightness, contrast, saturation, rng.uniform(-HUE, HUE), rng.permutation(4))


def steps(brightness, contrast, saturation, hue, order=(0, 1, 2, 3)):
    """Return the (4, 4) table of the four factors, applied in `order` (of the argument positions)."""
    rows = np.array(
        [
            (brightness, 0, 0, 0),
            (contrast, 0, 1 - contrast, 0),
            (saturation, 1 - saturation, 0, 0),
            (1, 0, 0, hue),
        ],
        dtype=np.float32,
    )
    return rows[list(order)]


def apply(image, table):
    """Apply one jitter to one image.

    Args:
        image: (3, H, W) float32 in [0, 1]; left as it is.
        table: (4, 4), see the module.

    Returns:
        A new (3, H, W) tensor.
    """
    image = image.clone()
    for gain, grey, mean, hue in np.asarray(table).tolist():
        if hue:
            image = _turn_hue(image, hue)
            continue
        if grey or mean:
            luma = _luma(image)
            image.mul_(gain)
            image.add_(luma.mul_(grey) if grey else _mean(luma) * mean)
        elif gain == 1:
            continue
        else:
            image.mul_(gain)
        image.clamp_(0, 1)
    return image


def apply_batch(images, tables):
    """Apply a jitter of its own to each image of a batch, on the batch's device, without a loop over images.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        tables: (B, 4, 4), see the module.

    Returns:
        (B, 3, H, W), in the channels-last memory format that the networks work in.
    """
    tables = tables.to(images)
    hue = tables[..., 3]
    tables = torch.cat((tables[..., :1], LUMA[0] * tables[..., 1:]), -1)  # `_mix` leaves the pixels' red as it is
    turning = hue != 0
    reached = turning.cumsum(1) > 0  # (B, 4): the hue is turned here or has been
    for step in range(3):
        images = _mix(images, tables[:, step], ~reached[:, step])
    turn = hue.sum(1).view(-1, 1, 1, 1)
    images = torch.where(turn == 0, images, _turn_hue(images, turn.squeeze(1)))
    for step in range(1, 3):
        images = _mix(images, tables[:, step], ~turning[:, step] & reached[:, step])
    out = None if torch.compiler.is_compiling() else torch.empty_like(images, memory_format=torch.channels_last)
    images = _mix(images, tables[:, 3], ~turning[:, 3], out)  # also where no hue is turned
    return images.contiguous(memory_format=torch.channels_last)


def _mix(images, steps, wanted, out=None):
    """Take a step without hue, (B, 4), on those images that `wanted`, (B,), names; `grey` and `mean` times LUMA[0]."""
    gain, grey, mean, _ = (torch.where(wanted, column, 0).view(-1, 1, 1, 1) for column in steps.unbind(1))
    gain = gain + ~wanted.view(-1, 1, 1, 1)
    red, green, blue = images.unbind(-3)
    luma = torch.add(red, green, alpha=LUMA[1] / LUMA[0]).add_(blue, alpha=LUMA[2] / LUMA[0]).unsqueeze(-3)
    grey = torch.addcmul(luma.mean((-2, -1), keepdim=True) * mean, luma, grey)
    return torch.addcmul(grey, images, gain, out=out).clamp_(0, 1)


def _luma(image):
    red, green, blue = image.unbind(-3)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(-3)


def _mean(luma):
    """Return the mean of all values, to the bit the same with any number of threads: torch shares one long sum out."""
    return luma.sum(-1).sum() / luma.numel()


def _turn_hue(image, turn):
    """Return `image` (..., 3, H, W) with its hue turned by `turn` (of the circle), value and saturation kept.

    With hue h, value V and chroma C, a channel is V - C * clamp(2 - 6 d, 0, 1), where d is how far h + n lies from the
    nearest whole number and n = 3/6, 1/6, -1/6 for red, green, blue (Smith, SIGGRAPH 1978, in closed form).
    """
    red, green, blue = image.unbind(-3)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sixth = chroma.clamp(min=1e-8).mul_(6).reciprocal_()
    hue = (red - green).mul_(sixth).add_(4 / 6)
    hue = torch.where(value == green, (blue - red).mul_(sixth).add_(2 / 6), hue)
    hue = torch.where(value == red, (green - blue).mul_(sixth), hue)
    base, starts = value - 2 * chroma, (3 / 6, 1 / 6, -1 / 6)
    if torch.compiler.is_compiling():  # which writes into no part of a tensor, and needs no such thrift
        return torch.stack([_turned_channel(hue, base, chroma, turn + start) for start in starts], -3)
    turned = torch.empty_like(image)
    for channel, start in zip(turned.unbind(-3), starts, strict=True):
        _turned_channel(hue, base, chroma, turn + start, channel)
    return turned


def _turned_channel(hue, base, chroma, turn, out=None):
    channel = torch.add(hue, turn, out=out)
    channel.sub_(channel.round()).abs_().clamp_(1 / 6, 2 / 6)
    return torch.addcmul(base, chroma, channel, value=6, out=out)
