"""ResNet encoders (He et al. 2016) for one or several images stacked along the channels, from torchvision.

The published files hold the classifier `encoder.fc`, which nothing uses: it is kept as entries that do not train.
"""

import torch
from torch import nn

from networks.image import normalised

DEPTHS = (18, 34, 50, 101, 152)


class UnusedLinear(nn.Module):
    """The weights of ImageNet's classifier, carried for the files' sake and never trained."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().clone())
        self.register_buffer("bias", linear.bias.detach().clone())


class ResnetEncoder(nn.Module):
    """A torchvision ResNet that returns its five feature maps.

    Args:
        num_layers: 18, 34, 50, 101 or 152.
        pretrained: start from ImageNet weights, which torchvision downloads once; the first convolution is tiled over
            the input images and divided by their number, so that identical images give the original response. From
            scratch it is drawn for all channels independently, so that the network can tell the order of the images.
        num_input_images: images stacked along the channels of the input.

    Raises:
        ValueError: another number of layers.
        OSError: the ImageNet weights are neither in torch's cache nor to be had.
    """

    def __init__(self, num_layers, pretrained, num_input_images=1):
        super().__init__()
        if num_layers not in DEPTHS:
            raise ValueError(f"num_layers must be one of {DEPTHS}, got {num_layers}")
        from torchvision import models

        build = getattr(models, f"resnet{num_layers}")
        self.encoder = build(weights="IMAGENET1K_V1" if pretrained else None)
        self.encoder.fc = UnusedLinear(self.encoder.fc)
        self.num_ch_enc = (64, 64, 128, 256, 512) if num_layers < 50 else (64, 256, 512, 1024, 2048)
        if num_input_images > 1:
            self._widen(num_input_images, tiled=pretrained)

    def _widen(self, images, tiled):
        narrow = self.encoder.conv1
        self.encoder.conv1 = nn.Conv2d(3 * images, 64, 7, 2, 3, bias=False)
        if not tiled:
            nn.init.kaiming_normal_(self.encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
        elif narrow.weight.device.type != "meta":
            with torch.no_grad():
                self.encoder.conv1.weight.copy_(narrow.weight.repeat(1, images, 1, 1) / images)

    def forward(self, input_image):
        """Return five maps at 1/2 to 1/32 of images (B, 3 * num_input_images, H, W) in [0, 1]."""
        net = self.encoder
        x = normalised(input_image).contiguous(memory_format=torch.channels_last)
        features = [net.relu(net.bn1(net.conv1(x)))]
        features.append(net.layer1(net.maxpool(features[-1])))
        for layer in (net.layer2, net.layer3, net.layer4):
            features.append(layer(features[-1]))
        return features
