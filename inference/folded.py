"""The depth network rewritten for inference: the same function up to float rounding, with less work.

BatchNorm, LayerNorm's affine part and the layer scales are folded into the neighbouring weights; cross-covariance
attention becomes one C x C matrix per image, found from the tokens' Gram matrix; on a CPU the per-pixel networks run
over blocks of pixels small enough to stay in the cache; only the finest disparity is made.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from layers import upsample
from networks.model_table import IMAGE_MEAN, IMAGE_STD

_CACHE_BYTES = 1 << 20  # of hidden activations a core works on at a time: about a second-level cache


class FoldedDepthNetwork(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to sigmoid disparity (B, 1, H, W), as `encoder` and `decoder` do it in eval mode.

    Args:
        encoder: a `networks.LiteMono`.
        decoder: a `networks.DepthDecoder` that makes scale 0.
    """

    @torch.no_grad()
    def __init__(self, encoder, decoder):
        super().__init__()
        stem, *down = encoder.downsample_layers
        self.stem = nn.ModuleList(_folded_convolution(block.conv, block.bn_gelu.bn) for block in stem)
        joins = [encoder.stem2[0], *(block[0] for block in down)]
        self.joins = nn.ModuleList(_folded_convolution(block.conv) for block in joins)
        self.stages = nn.ModuleList(
            nn.Sequential(*map(_CDC, list(stage)[:-1]), _LGFI(stage[-1])) for stage in encoder.stages
        )
        self.decoder = decoder

    def reduced(self, dtype):
        """Return a copy that computes in `dtype`, all but attention (its sums over pixels) and the disparity head."""
        twin = copy.deepcopy(self)
        whole = [each for each in twin.modules() if isinstance(each, _Attention)] + [twin._head()]
        kept = {id(each) for part in whole for each in (*part.parameters(), *part.buffers())}
        return twin._apply(lambda each: each if id(each) in kept else each.to(dtype))

    def forward(self, images):
        x = ((images - IMAGE_MEAN) / IMAGE_STD).to(self.stem[0].weight.dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        return self._decode(encode(self, x, torch.ops.aten.gelu_))

    def _decode(self, features):
        blocks, levels = self.decoder.decoder, self.decoder.levels
        x = features[-1]
        for step, level in enumerate(reversed(range(levels))):
            x = upsample(blocks[2 * step](x))
            if self.decoder.use_skips and level > 0:
                x = torch.cat((x, features[level - 1]), 1)
            x = blocks[2 * step + 1](x)
        head = self._head()
        return upsample(head(x.to(head.conv.weight.dtype))).sigmoid_()

    def _head(self):
        return self.decoder.decoder[2 * self.decoder.levels + self.decoder.scales.index(0)]


def encode(network, x, gelu):
    """Return the feature maps of a folded encoder, finest first.

    Args:
        network: module with the lists of modules `stem`, `joins` and `stages`.
        x: (B, 3, H, W) normalised images.
        gelu: the activation of the stem.
    """
    pooled = [F.avg_pool2d(x, 3, 2, 1)]
    for _ in network.stages[1:]:
        pooled.append(F.avg_pool2d(pooled[-1], 3, 2, 1))
    for convolution in network.stem:
        x = gelu(convolution(x))
    joined, features = (x,), []
    for join, stage, small in zip(network.joins, network.stages, pooled, strict=True):
        x = join(torch.cat((*joined, small), 1))
        features.append(stage(x))
        joined = (x, features[-1])
    return features


class _PixelNetwork(nn.Module):
    """Linear, GELU, Linear on every pixel, added to `residual`; the weights of all three in float32, already folded."""

    def __init__(self, first_weight, first_bias, second_weight, second_bias):
        super().__init__()
        self.register_buffer("first", first_weight.t().float().contiguous())  # (C, 6C)
        self.register_buffer("first_bias", first_bias.float())
        self.register_buffer("second", second_weight.t().float().contiguous())  # (6C, C)
        self.register_buffer("second_bias", second_bias.float())

    def forward(self, x, residual):
        """Return residual + network(x) for tokens (N, C)."""
        out = torch.empty_like(residual)
        block = self._block(x)
        hidden = x.new_empty(min(block, len(x)), self.first.shape[1])
        for start in range(0, len(x), block):
            part = slice(start, start + block)
            tokens = x[part]
            inner = hidden[: len(tokens)]
            torch.addmm(self.first_bias, tokens, self.first, out=inner)
            torch.ops.aten.gelu_(inner)
            torch.addmm(residual[part], inner, self.second, out=out[part])
        return out.add_(self.second_bias)

    def _block(self, x):
        if x.device.type != "cpu":
            return len(x)
        fitting = max(1, _CACHE_BYTES * torch.get_num_threads() // (4 * self.first.shape[1]))
        count = max(1, round(len(x) / fitting))
        return -(-len(x) // count)


class _CDC(nn.Module):
    """`networks.lite_mono.DilatedConv`, folded."""

    def __init__(self, block):
        super().__init__()
        self.convolution = block.ddwconv.conv
        scale, shift = _affine(block.bn1)
        first = block.pwconv1.weight.double()
        gamma = block.gamma.double()
        self.network = _PixelNetwork(
            first * scale,
            block.pwconv1.bias.double() + first @ shift,
            block.pwconv2.weight.double() * gamma[:, None],
            block.pwconv2.bias.double() * gamma,
        )

    def forward(self, x):
        return _image(self.network(_tokens(self.convolution(x)), _tokens(x)), x)


class _LGFI(nn.Module):
    """`networks.lite_mono.LGFI`, folded; positional codes are kept per map size."""

    def __init__(self, block):
        super().__init__()
        self.position, self.codes = block.pos_embd, {}
        self.attention = _Attention(block)
        first, gamma = block.pwconv1.weight.double(), block.gamma.double()
        self.eps = block.norm.eps
        self.network = _PixelNetwork(
            first * block.norm.weight.double(),
            block.pwconv1.bias.double() + first @ block.norm.bias.double(),
            block.pwconv2.weight.double() * gamma[:, None],
            block.pwconv2.bias.double() * gamma,
        )

    def forward(self, x):
        batch, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).to(self.attention.weight.dtype)
        if self.position is not None:
            tokens = tokens + self._code(height, width, x.device)
        tokens = self.attention(tokens.reshape(batch, height * width, channels))
        normal = F.layer_norm(tokens.view(-1, channels), (channels,), eps=self.eps)
        return _image(self.network(normal.to(x.dtype), _tokens(x)), x)

    def _code(self, height, width, device):
        key = height, width, device
        if key not in self.codes:
            self.codes[key] = self.position(height, width)
        return self.codes[key]


class _Attention(nn.Module):
    """x + gamma_xca * XCA(LayerNorm(x)) for tokens x (B, N, C).

    With y the normalised tokens, q = y Wq' + bq and k = y Wk' + bk, the products q'k and the norms of q and k follow
    from the Gram matrix y'y and the sum of y; and since the attention only mixes channels, values, mixing and
    projection together are one matrix (C, C) and one bias.
    """

    def __init__(self, block):
        super().__init__()
        qkv, proj = block.xca.qkv, block.xca.proj
        gain, offset = block.norm_xca.weight.double(), block.norm_xca.bias.double()
        weight, bias = qkv.weight.double() * gain, qkv.bias.double() + qkv.weight.double() @ offset
        heads, channels = len(block.xca.temperature), len(gain)
        shape = (3, heads, channels // heads)
        self.eps = block.norm_xca.eps
        gamma = block.gamma_xca.double()
        self.register_buffer("weight", weight.view(*shape, channels).float())
        self.register_buffer("bias", bias.view(*shape, 1).float())
        self.register_buffer("temperature", block.xca.temperature.detach().float())
        self.register_buffer("projection", (proj.weight.double() * gamma[:, None]).float())
        self.register_buffer("projection_bias", (proj.bias.double() * gamma).float())

    def forward(self, x):
        batch, count, channels = x.shape
        y = F.layer_norm(x, (channels,), eps=self.eps)
        gram = (y.transpose(1, 2) @ y)[:, None]  # (B, 1, C, C)
        total = y.sum(1)[:, None, :, None]  # (B, 1, C, 1)
        (query, key, value), (query_bias, key_bias, value_bias) = self.weight, self.bias

        def products(left, left_bias, right, right_bias):  # (B, heads, C/heads, C/heads)
            cross = left @ gram + left_bias @ total.transpose(2, 3)
            return cross @ right.mT + (left @ total + count * left_bias) @ right_bias.mT

        scores = products(query, query_bias, key, key_bias)
        query_norm = products(query, query_bias, query, query_bias).diagonal(dim1=2, dim2=3).clamp_min(0).sqrt()
        key_norm = products(key, key_bias, key, key_bias).diagonal(dim1=2, dim2=3).clamp_min(0).sqrt()
        tiny = 1e-12  # as torch.nn.functional.normalize
        scores = scores / query_norm.clamp_min(tiny)[..., None] / key_norm.clamp_min(tiny)[..., None, :]
        attention = (scores * self.temperature).softmax(-1)
        mixing = self.projection @ (attention @ value).view(batch, channels, channels)
        bias = (attention @ value_bias).view(batch, 1, channels) @ self.projection.t() + self.projection_bias
        return torch.baddbmm(x, y, mixing.mT).add_(bias)


def _tokens(x):
    """(B, C, H, W) as (B*H*W, C), without a copy where x is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(tokens, like):
    """(B*H*W, C) as a channels-last (B, C, H, W) of like's shape."""
    batch, channels, height, width = like.shape
    return tokens.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _affine(norm):
    """Scale and shift, (C,) float64, that a BatchNorm in eval mode applies."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _folded_convolution(convolution, norm=None):
    """Return a copy of `convolution`, with the BatchNorm that follows it folded in."""
    copy = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        convolution.stride,
        convolution.padding,
        bias=norm is not None,
        device=convolution.weight.device,
    )
    weight = convolution.weight.detach().double()
    if norm is not None:
        scale, shift = _affine(norm)
        weight = weight * scale[:, None, None, None]
        copy.bias.data = shift.detach().float()
    copy.weight.data = weight.float().contiguous(memory_format=torch.channels_last)
    return copy
