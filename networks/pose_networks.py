"""Networks that predict camera motion between frames (Godard et al. 2019; PoseCNN after Zhou et al. 2017)."""

import torch
from torch import nn

MOTION_SCALE = 0.01  # motions start small: a frame apart, a camera hardly turns


class PoseDecoder(nn.Module):
    """Predicts motions from the last map of one or several encoders' features.

    Args:
        num_ch_enc: channels of the features; only the last map is used.
        num_input_features: how many lists of features come in.
        num_frames_to_predict_for: motions to predict; one fewer than the inputs if not said.
    """

    def __init__(self, num_ch_enc, num_input_features, num_frames_to_predict_for=None):
        super().__init__()
        if num_frames_to_predict_for is None:
            num_frames_to_predict_for = num_input_features - 1
        self.num_frames_to_predict_for = num_frames_to_predict_for
        self.net = nn.ModuleList(
            [
                nn.Conv2d(int(num_ch_enc[-1]), 256, 1),
                nn.Conv2d(num_input_features * 256, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 6 * num_frames_to_predict_for, 1),
            ]
        )
        for layer in self.net:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, input_features):
        """Return axis-angle (radians) and translation, each (B, motions, 1, 3), from a list of lists of maps."""
        squeeze, *convolutions, last = self.net
        x = torch.cat([squeeze(features[-1]).relu() for features in input_features], 1)
        for convolution in convolutions:
            x = convolution(x).relu()
        return split_motions(last(x), self.num_frames_to_predict_for)


class PoseCNN(nn.Module):
    """A plain convolutional network from n stacked frames to n - 1 motions."""

    CHANNELS = (16, 32, 64, 128, 256, 256, 256)
    KERNELS = (7, 5, 3, 3, 3, 3, 3)

    def __init__(self, num_input_frames):
        super().__init__()
        self.num_input_frames = num_input_frames
        self.net = nn.ModuleList()
        channels = 3 * num_input_frames
        for out_channels, kernel in zip(self.CHANNELS, self.KERNELS, strict=True):
            self.net.append(nn.Conv2d(channels, out_channels, kernel, 2, kernel // 2))
            channels = out_channels
        self.pose_conv = nn.Conv2d(channels, 6 * (num_input_frames - 1), 1)

    def forward(self, x):
        """Return axis-angle (radians) and translation, each (B, n - 1, 1, 3), from frames (B, 3n, H, W) in [0, 1]."""
        for convolution in self.net:
            x = _convolve(convolution, x).relu()
        return split_motions(self.pose_conv(x), self.num_input_frames - 1)


def _convolve(convolution, x):
    """Return `convolution(x)`; on a CPU under autocast in float32 where the map is one pixel wide.

    There oneDNN's bf16 leaves parts of a strided convolution's weight gradient unset (torch 2.14), so that it holds
    whatever freed memory held; images up to 64 pixels wide come down to such maps.
    """
    if x.shape[-1] == 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return convolution(x.float())
    return convolution(x)


def split_motions(x, motions):
    """Average (B, 6 * motions, h, w) over space; return axis-angle and translation, (B, motions, 1, 3) each."""
    x = MOTION_SCALE * x.mean((2, 3)).view(-1, motions, 1, 6)
    return x[..., :3], x[..., 3:]
