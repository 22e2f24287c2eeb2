"""The depth decoder (Zhang et al., CVPR 2023, section 3.2.4): convolutions, bilinear resizing, the encoder's skips.

Module names are the published checkpoint's file format: `decoder.0` to `decoder.5` are the convolution blocks from the
deepest level up, two a level; from `decoder.6` on come the disparity heads in the order of `scales`.
"""

import torch
from torch import nn

from layers import Conv3x3, ConvBlock, upsample


class DepthDecoder(nn.Module):
    """Turns the encoder's three maps into disparity.

    Args:
        num_ch_enc: channels of the encoder's maps, from 1/4 to 1/16.
        scales: of the outputs, 0 (full size) to 2 (a quarter).
        num_output_channels: channels of each output (one, or one per source frame as a predictive mask).
        use_skips: whether the encoder's shallower maps are joined in.
    """

    def __init__(self, num_ch_enc, scales=(0, 1, 2), num_output_channels=1, use_skips=True):
        super().__init__()
        self.scales = tuple(scales)
        self.levels = len(num_ch_enc)
        self.use_skips = use_skips
        if any(scale not in range(self.levels) for scale in self.scales):
            raise ValueError(f"scales must lie in 0..{self.levels - 1}, got {self.scales}")
        self.num_ch_dec = tuple(int(channels) // 2 for channels in num_ch_enc)

        blocks, channels = [], int(num_ch_enc[-1])
        for level in reversed(range(self.levels)):
            blocks.append(ConvBlock(channels, self.num_ch_dec[level]))
            channels = self.num_ch_dec[level]
            skip = int(num_ch_enc[level - 1]) if use_skips and level > 0 else 0
            blocks.append(ConvBlock(channels + skip, channels))
        heads = [Conv3x3(self.num_ch_dec[scale], num_output_channels) for scale in self.scales]
        self.decoder = nn.ModuleList(blocks + heads)
        self.apply(_initialise)

    def forward(self, input_features):
        """Return {("disp", scale): (B, num_output_channels, H/2^scale, W/2^scale)} in (0, 1), image size H x W."""
        outputs = {}
        x = input_features[-1]
        for step, level in enumerate(reversed(range(self.levels))):
            x = upsample(self.decoder[2 * step](x))
            if self.use_skips and level > 0:
                x = torch.cat((x, input_features[level - 1]), 1)
            x = self.decoder[2 * step + 1](x)
            if level in self.scales:
                head = self.decoder[2 * self.levels + self.scales.index(level)]
                outputs[("disp", level)] = _disparity(head, x)
        return outputs


def _disparity(head, x):
    """Return the sigmoid of a head's upsampled response; in float32 under autocast too, where 8 bits would not do."""
    if not torch.is_autocast_enabled(x.device.type):
        return upsample(head(x)).sigmoid()
    with torch.autocast(x.device.type, enabled=False):
        return upsample(head(x.float())).sigmoid()


def _initialise(module):
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
