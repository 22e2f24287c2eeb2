"""The depth network as other engines take it: the folded network in plain operators, with what goes before and after.

Per-pixel networks are 1x1 convolutions or matrix products, attention is the small C x C form of `inference.folded`
or the one over all tokens, as the paper draws it. All forms are the same function up to float rounding.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from inference.folded import FoldedDepthNetwork, encode
from layers import disp_to_depth, upsample
from networks.model_table import IMAGE_MEAN, IMAGE_STD

PIXEL_NETWORKS = ("convolution", "matmul")
ATTENTIONS = ("channels", "tokens")


class Form(NamedTuple):
    """How the graph is written down, and what goes in and out.

    size: (height, width) that the network runs at.
    given: "float", images (B, 3, H, W) float32 in [0, 1], or "uint8", images (B, H, W, 3) 0..255, as cameras give them.
    resize: images of any size go in and are resized to `size` (bilinear, antialiased).
    any_size: the network runs at the image's own size, multiples of 32; `size` is then an example.
    any_batch: any number of images at a time; otherwise one.
    depth: depth in metres comes out instead of scaled disparity.
    metric_scale: metres per unit of the network's depth; depth is multiplied and disparity divided by it.
    pixel_networks, attention: of `PIXEL_NETWORKS` and `ATTENTIONS`.
    """

    size: tuple
    given: str = "float"
    resize: bool = False
    any_size: bool = False
    any_batch: bool = False
    depth: bool = False
    metric_scale: float = 1.0
    pixel_networks: str = "convolution"
    attention: str = "channels"

    @property
    def output(self):
        return "depth" if self.depth else "disparity"


class ExportedNetwork(nn.Module):
    """Images, as the form says, to scaled disparity in 1/metres or depth in metres, (B, 1, H, W) float32.

    Args:
        network: a `checkpointing.folders.DepthNetwork`.
        form: a `Form`.
    """

    def __init__(self, network, form):
        super().__init__()
        folded = FoldedDepthNetwork(network.encoder, network.decoder)
        self.form, self.depth_range = form, network.depth_range
        self.stem, self.joins = folded.stem, folded.joins
        pixel = {"convolution": _PixelConvolutions, "matmul": _PixelProducts}[form.pixel_networks]
        attention = {"channels": _ChannelAttention, "tokens": _TokenAttention}[form.attention]
        self.stages = nn.ModuleList()
        for stage, original in zip(folded.stages, network.encoder.stages, strict=True):
            *blocks, last = stage
            blocks = [_CDC(block, pixel) for block in blocks]
            last = _LGFI(last, pixel, attention, original[-1], None if form.any_size else form.size)
            self.stages.append(nn.Sequential(*blocks, last))
        self.decoder = folded.decoder
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the engines choose memory formats by themselves
                module.weight.data = module.weight.data.contiguous()
        self.requires_grad_(False)

    def forward(self, image):
        features = encode(self, self._prepared(image), F.gelu)
        disparity, _ = disp_to_depth(self._decode(features), *self.depth_range)
        if self.form.depth:
            return self.form.metric_scale / disparity
        return disparity if self.form.metric_scale == 1 else disparity * (1 / self.form.metric_scale)

    def _prepared(self, image):
        """Return normalised images (B, 3, H, W) of the network's size."""
        unit = 1.0
        if self.form.given == "uint8":
            image, unit = image.permute(0, 3, 1, 2).float(), 255.0
        if self.form.resize:
            image = F.interpolate(image, self.form.size, mode="bilinear", align_corners=False, antialias=True)
        return (image - IMAGE_MEAN * unit) * (1 / (IMAGE_STD * unit))

    def _decode(self, features):
        blocks, levels = self.decoder.decoder, self.decoder.levels
        x = features[-1]
        for step, level in enumerate(reversed(range(levels))):
            x = upsample(_convolved(blocks[2 * step], x))
            if self.decoder.use_skips and level > 0:
                x = torch.cat((x, features[level - 1]), 1)
            x = _convolved(blocks[2 * step + 1], x)
        head = blocks[2 * levels + self.decoder.scales.index(0)]
        return upsample(head(x)).sigmoid()


def _convolved(block, x):
    return F.elu(block.conv(x))  # not in place, unlike the block itself


class _PixelConvolutions(nn.Module):
    """Linear, GELU, Linear on every pixel of (B, C, H, W) as two 1x1 convolutions."""

    def __init__(self, folded):
        super().__init__()
        self.first = _pointwise(folded.first, folded.first_bias)
        self.second = _pointwise(folded.second, folded.second_bias)

    def forward(self, x):
        return self.second(F.gelu(self.first(x)))


def _pointwise(weight, bias):
    """Return the 1x1 convolution of a weight (C_in, C_out) and bias (C_out,)."""
    layer = nn.Conv2d(*weight.shape, 1)
    layer.weight.data = weight.t()[..., None, None].contiguous()
    layer.bias.data = bias.clone()
    return layer


class _PixelProducts(nn.Module):
    """The same as matrix products over (B, H, W, C)."""

    def __init__(self, folded):
        super().__init__()
        for name in ("first", "first_bias", "second", "second_bias"):
            self.register_buffer(name, getattr(folded, name).clone())

    def forward(self, x):
        hidden = F.gelu(x.permute(0, 2, 3, 1) @ self.first + self.first_bias)
        return (hidden @ self.second + self.second_bias).permute(0, 3, 1, 2)


class _CDC(nn.Module):
    def __init__(self, folded, pixel):
        super().__init__()
        self.convolution, self.network = folded.convolution, pixel(folded.network)

    def forward(self, x):
        return x + self.network(self.convolution(x))


class _LGFI(nn.Module):
    """`networks.lite_mono.LGFI` on (B, C, H, W); the positional code is stored where the size is fixed."""

    def __init__(self, folded, pixel, attention, original, size):
        super().__init__()
        self.eps = folded.eps
        self.attention, self.network = attention(folded.attention, original), pixel(folded.network)
        self.position = folded.position
        self.fixed = self.position is not None and size is not None
        if self.fixed:
            for name, code in zip(("rows", "columns"), _codes(self.position, size[0] // 4, size[1] // 4), strict=True):
                self.register_buffer(name, code)

    def forward(self, x):
        tokens = x
        if self.position is not None:  # in the first stage, at 1/4 of the size
            rows, columns = (self.rows, self.columns) if self.fixed else _codes(self.position, *x.shape[2:])
            tokens = x + rows + columns
        batch, channels, height, width = x.shape
        tokens = self.attention(tokens.reshape(batch, channels, height * width))
        return x + self.network(_normalised(tokens, self.eps).reshape(batch, channels, height, width))


def _codes(position, height, width):
    """Return the two summands of the positional code: rows (1, C, H, 1), with the bias, and columns (1, C, 1, W)."""
    projection, half = position.token_projection, position.HIDDEN
    weight = projection.weight[:, :, 0, 0]
    rows = F.linear(position.axis(height, weight), weight[:, :half], projection.bias)
    columns = F.linear(position.axis(width, weight), weight[:, half:])
    return rows.t()[None, :, :, None], columns.t()[None, :, None, :]


def _normalised(tokens, eps):
    """LayerNorm without weights over the channels of (B, C, N)."""
    centred = tokens - tokens.mean(1, keepdim=True)
    return centred / ((centred * centred).mean(1, keepdim=True) + eps).sqrt()


class _ChannelAttention(nn.Module):
    """`inference.folded._Attention` on tokens (B, C, N): from their C x C Gram matrix."""

    def __init__(self, folded, _):
        super().__init__()
        self.eps = folded.eps
        names = ("weight", "bias", "temperature", "projection", "projection_bias")
        for name in names:
            self.register_buffer(name, getattr(folded, name).clone())

    def forward(self, x):
        batch, channels, count = x.shape
        y = _normalised(x, self.eps)
        gram = (y @ y.transpose(1, 2))[:, None]  # (B, 1, C, C)
        total = y.sum(2)[:, None, :, None]  # (B, 1, C, 1)
        (query, key, value), (query_bias, key_bias, value_bias) = self.weight, self.bias

        def products(left, left_bias, right, right_bias):  # (B, heads, C/heads, C/heads)
            cross = left @ gram + left_bias @ total.transpose(2, 3)
            return cross @ right.mT + (left @ total + count * left_bias) @ right_bias.mT

        def squares(weight, bias):  # the diagonal of products(weight, bias, weight, bias): (B, heads, C/heads, 1)
            own = ((weight @ gram) * weight).sum(-1, keepdim=True)
            return own + 2 * bias * (weight @ total) + count * bias * bias

        tiny = 1e-12  # as torch.nn.functional.normalize
        norms = [squares(*each).clamp_min(0).sqrt().clamp_min(tiny) for each in ((query, query_bias), (key, key_bias))]
        scores = products(query, query_bias, key, key_bias) / norms[0] / norms[1].transpose(2, 3)
        attention = (scores * self.temperature).softmax(-1)
        mixing = self.projection @ (attention @ value).reshape(batch, channels, channels)
        bias = self.projection @ (attention @ value_bias).reshape(batch, channels, 1) + self.projection_bias[:, None]
        return x + mixing @ y + bias


class _TokenAttention(nn.Module):
    """`networks.lite_mono.XCA` over all tokens, with LayerNorm before and layer scale after it: (B, C, N)."""

    def __init__(self, folded, original):
        super().__init__()
        self.norm, self.xca, self.gamma = original.norm_xca, original.xca, original.gamma_xca

    def forward(self, x):
        tokens = x.transpose(1, 2)
        return (tokens + self.xca(self.norm(tokens), self.gamma)).transpose(1, 2)
