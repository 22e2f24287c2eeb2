"""The Lite-Mono depth encoder (Zhang et al., CVPR 2023, section 3.2): three stages of dilated convolutions and
one cross-covariance attention block each, fed with pooled copies of the image.

Feature maps are (B, C, H, W); the per-pixel layers work on (B, H, W, C), which costs no copy because the encoder runs
in the channels-last memory format. Module names are the published checkpoint's file format.
"""

import torch
import torch.nn.functional as F
from torch import nn

from cpu.pixel_network import pixel_network
from networks.image import normalised
from networks.model_table import LARGEST_DILATION, MODELS, dilations_for

EXPANSION = 6  # hidden width of the per-pixel layers over their input
HEADS = 8


def add_residual(x, y, rate, training):
    """Return x + y, but in training drop y for whole samples with probability `rate` and scale it up for the others.

    x, y: (B, C, H, W). Source: Huang et al. 2016 (stochastic depth).
    """
    if not training or rate == 0:
        return x + y
    keep = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(1 - rate)
    return torch.addcmul(x, y, keep / (1 - rate))


class UnusedNorm(nn.Module):
    """Entries that the published CDC blocks carry and never use: kept in the files, never trained."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))


class BNGELU(nn.Module):
    """BatchNorm, then exact GELU."""

    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=1e-5)

    def forward(self, x):
        return F.gelu(self.bn(x))


class Conv(nn.Module):
    """3x3 convolution without bias, optionally followed by BatchNorm and GELU."""

    def __init__(self, in_channels, out_channels, stride, bn_act=False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn_gelu = BNGELU(out_channels) if bn_act else nn.Identity()

    def forward(self, x):
        return self.bn_gelu(self.conv(x))


class DepthwiseConv(nn.Module):
    """Depthwise 3x3 dilated convolution without bias, same size out."""

    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)

    def forward(self, x):
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # In bf16, oneDNN leaves parts of a dilated depthwise weight gradient unset (torch 2.11 to 2.15).
            with torch.autocast("cpu", enabled=False):
                return self.conv(x.float())
        return self.conv(x)


class DilatedConv(nn.Module):
    """CDC block: dilated depthwise convolution and a per-pixel two-layer network, residual (eq. 3)."""

    def __init__(self, channels, dilation, drop_path_rate, layer_scale):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))
        self.ddwconv = DepthwiseConv(channels, dilation)
        self.bn1 = nn.BatchNorm2d(channels, eps=1e-5)
        self.norm = UnusedNorm(channels)
        self.pwconv1 = nn.Linear(channels, EXPANSION * channels)
        self.pwconv2 = nn.Linear(EXPANSION * channels, channels)
        self.drop_path_rate = drop_path_rate

    def forward(self, x):
        y = self.bn1(self.ddwconv(x)).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = _scaled_network(self, y).permute(0, 3, 1, 2)
        return add_residual(x, y, self.drop_path_rate, self.training)


def _scaled_network(block, x):
    """Return gamma * pwconv2(gelu(pwconv1(x))) of a block; gamma goes onto the weights, not onto the pixels."""
    gamma, first, second = block.gamma, block.pwconv1, block.pwconv2
    return pixel_network(x, first.weight, first.bias, gamma[:, None] * second.weight, gamma * second.bias)


class PositionalEncodingFourier(nn.Module):
    """Fourier encoding of the pixel position, projected to C channels (Vaswani et al. 2017; Carion et al. 2020)."""

    HIDDEN, TEMPERATURE, SCALE, EPS = 32, 10000.0, 2 * torch.pi, 1e-6

    def __init__(self, channels):
        super().__init__()
        self.token_projection = nn.Conv2d(2 * self.HIDDEN, channels, 1)

    def axis(self, length, like):
        """Return the code of one axis, (length, HIDDEN): sines in the even channels, cosines in the odd ones."""
        position = torch.arange(1, length + 1, dtype=torch.float32, device=like.device)
        position = position / (length + self.EPS) * self.SCALE
        channel = torch.arange(self.HIDDEN, dtype=torch.float32, device=like.device)
        angle = position[:, None] / self.TEMPERATURE ** (2 * (channel // 2) / self.HIDDEN)
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1).to(like.dtype)

    def forward(self, height, width):
        """Return the projected code, (H, W, C); rows come before columns in the channels."""
        weight = self.token_projection.weight[:, :, 0, 0]
        rows = self.axis(height, weight)[:, None].expand(-1, width, -1)
        columns = self.axis(width, weight)[None].expand(height, -1, -1)
        return F.linear(torch.cat((rows, columns), -1), weight, self.token_projection.bias)


class XCA(nn.Module):
    """Cross-covariance attention: channels attend to channels (El-Nouby et al. 2021, eq. 2), times a layer scale (C,).

    (B, N, C) -> (B, N, C).
    """

    def __init__(self, channels):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x, scale):
        batch, tokens, channels = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, HEADS, channels // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 4, 1)  # each (B, heads, C/heads, N)
        attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        y = attention.softmax(dim=-1) @ v
        y = y.permute(0, 3, 1, 2).reshape(batch, tokens, channels)
        return F.linear(y, scale[:, None] * self.proj.weight, scale * self.proj.bias)


class LGFI(nn.Module):
    """Local-global feature interaction: cross-covariance attention and a per-pixel network (eqs. 4 to 6)."""

    def __init__(self, channels, drop_path_rate, layer_scale, use_pos_emb):
        super().__init__()
        self.gamma_xca = nn.Parameter(torch.full((channels,), layer_scale))
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))
        self.pos_embd = PositionalEncodingFourier(channels) if use_pos_emb else None
        self.norm_xca = nn.LayerNorm(channels, eps=1e-6)
        self.xca = XCA(channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, EXPANSION * channels)
        self.pwconv2 = nn.Linear(EXPANSION * channels, channels)
        self.drop_path_rate = drop_path_rate

    def forward(self, x):
        batch, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        if self.pos_embd is not None:
            tokens = tokens + self.pos_embd(height, width)
        tokens = tokens.reshape(batch, height * width, channels)
        tokens = tokens + self.xca(self.norm_xca(tokens), self.gamma_xca)
        y = _scaled_network(self, self.norm(tokens)).view(batch, height, width, channels).permute(0, 3, 1, 2)
        return add_residual(x, y, self.drop_path_rate, self.training)  # to the input, without encoding and attention


class LiteMono(nn.Module):
    """Lite-Mono depth encoder.

    Args:
        model: a row of `networks.model_table.MODELS`.
        height, width: the input size that the published dilations are chosen for; any multiple of 32 can be fed.
        drop_path_rate: of the last block; the blocks before grow to it linearly from 0.
        in_chans: channels of the input image.
        dilations: three tuples, one a stage, that replace the published ones.
        layer_scale_init_value: initial `gamma`.

    Raises:
        ValueError: unknown model, or dilations that do not fit its blocks or lie beyond the limit.
    """

    def __init__(
        self,
        model="lite-mono",
        height=192,
        width=640,
        drop_path_rate=0.2,
        in_chans=3,
        dilations=None,
        layer_scale_init_value=1e-6,
    ):
        super().__init__()
        if model not in MODELS:
            raise ValueError(f"unknown model {model!r}: choose one of {', '.join(MODELS)}")
        published = dilations_for(model, height, width)
        dilations = tuple(tuple(int(d) for d in stage) for stage in (dilations or published))
        if [len(stage) for stage in dilations] != [len(stage) for stage in published]:
            wanted = " + ".join(str(len(stage)) for stage in published)
            raise ValueError(f"{model} takes {wanted} dilations, got {[len(stage) for stage in dilations]}")
        odd = [d for stage in dilations for d in stage if not 0 < d <= LARGEST_DILATION]
        if odd:
            raise ValueError(f"dilations must lie in 1..{LARGEST_DILATION}, got {odd[0]}")
        self.model, self.dilations = model, dilations
        self.num_ch_enc = MODELS[model].channels

        first, *others = self.num_ch_enc
        stem = (Conv(in_chans, first, 2, True), Conv(first, first, 1, True), Conv(first, first, 1, True))
        self.downsample_layers = nn.ModuleList([nn.Sequential(*stem)])
        for previous, channels in zip((first, *others), others, strict=False):
            self.downsample_layers.append(nn.Sequential(Conv(2 * previous + in_chans, channels, 2)))
        self.stem2 = nn.Sequential(Conv(first + in_chans, first, 2))

        blocks = sum(len(stage) + 1 for stage in dilations)
        rates = iter([drop_path_rate * i / (blocks - 1) for i in range(blocks)])
        self.stages = nn.ModuleList()
        for index, (channels, stage) in enumerate(zip(self.num_ch_enc, dilations, strict=True)):
            cdc = [DilatedConv(channels, d, next(rates), layer_scale_init_value) for d in stage]
            lgfi = LGFI(channels, next(rates), layer_scale_init_value, use_pos_emb=index == 0)
            self.stages.append(nn.Sequential(*cdc, lgfi))
        self.apply(_initialise)

    def forward(self, x):
        """Return the feature maps of an image (B, 3, H, W) in [0, 1]: a list at 1/4, 1/8 and 1/16 of its size.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        if x.shape[-2] % 32 or x.shape[-1] % 32:
            raise ValueError(f"height and width must be multiples of 32, got {x.shape[-2]}x{x.shape[-1]}")
        return self.forward_features(normalised(x))

    def forward_features(self, x):
        """As `forward`, for an image that is already normalised."""
        x = x.contiguous(memory_format=torch.channels_last)
        pooled = [F.avg_pool2d(x, 3, 2, 1)]
        for _ in self.num_ch_enc[1:]:
            pooled.append(F.avg_pool2d(pooled[-1], 3, 2, 1))

        x = self.downsample_layers[0](x)
        x = self.stem2(torch.cat((x, pooled[0]), 1))
        features = [self.stages[0](x)]
        for index in range(1, len(self.stages)):
            x = self.downsample_layers[index](torch.cat((x, features[-1], pooled[index]), 1))
            features.append(self.stages[index](x))
        return features


def _initialise(module):
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
