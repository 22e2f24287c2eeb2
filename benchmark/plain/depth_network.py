"""The depth and pose networks as the paper draws them: channels first, a permutation around every per-pixel layer.

The functions compute with the weights of the project's modules, so that both versions can be compared.
"""

import math

import torch
import torch.nn.functional as F

from layers import transformation_from_parameters

HEADS = 8


def predict(networks, inputs, sources=(-1, 1)):
    """Return disparities and motions of a batch, as `training.model` names them, pose networks on pairs."""
    outputs = decode(networks["depth"], encode(networks["encoder"], inputs["color_aug", 0, 0]))
    for frame in sources:
        pair = (frame, 0) if frame < 0 else (0, frame)
        stacked = torch.cat([inputs["color_aug", each, 0] for each in pair], 1)
        axisangle, translation = networks["pose"]([resnet(networks["pose_encoder"].encoder, stacked)])
        outputs["cam_T_cam", 0, frame] = transformation_from_parameters(axisangle[:, 0], translation[:, 0], frame < 0)
    return outputs


def resnet(net, x):
    """Return the five maps of a torchvision ResNet."""
    features = [F.relu(net.bn1(net.conv1((x - 0.45) / 0.225)))]
    features.append(net.layer1(net.maxpool(features[-1])))
    for layer in (net.layer2, net.layer3, net.layer4):
        features.append(layer(features[-1]))
    return features


def encode(encoder, image):
    """Return the three maps of a `networks.LiteMono`."""
    x = (image - 0.45) / 0.225
    small = [F.avg_pool2d(x, 3, 2, 1)]
    for _ in range(2):
        small.append(F.avg_pool2d(small[-1], 3, 2, 1))
    for block in encoder.downsample_layers[0]:
        x = F.gelu(block.bn_gelu.bn(block.conv(x)))
    x = encoder.stem2[0].conv(torch.cat((x, small[0]), 1))
    features = []
    for index, stage in enumerate(encoder.stages):
        if index:
            x = encoder.downsample_layers[index][0].conv(torch.cat((x, features[-1], small[index]), 1))
        y = x
        for block in list(stage)[:-1]:
            y = dilated_block(block, y)
        features.append(attention_block(stage[-1], y))
    return features


def dilated_block(block, x):
    """Depthwise dilated convolution, BatchNorm, per-pixel network, residual."""
    y = block.bn1(block.ddwconv.conv(x)).permute(0, 2, 3, 1)
    y = block.pwconv2(F.gelu(block.pwconv1(y)))
    return x + drop_samples((block.gamma * y).permute(0, 3, 1, 2), block)


def attention_block(block, x):
    """Positional code, cross-covariance attention, per-pixel network, residual."""
    batch, channels, height, width = x.shape
    tokens = x.reshape(batch, channels, height * width).permute(0, 2, 1)
    if block.pos_embd is not None:
        code = position_code(height, width).expand(batch, -1, -1, -1)
        code = block.pos_embd.token_projection(code).reshape(batch, channels, height * width)
        tokens = tokens + code.permute(0, 2, 1)
    tokens = tokens + block.gamma_xca * cross_covariance_attention(block.xca, block.norm_xca(tokens))
    y = block.norm(tokens.reshape(batch, height, width, channels))
    y = block.pwconv2(F.gelu(block.pwconv1(y)))
    return x + drop_samples((block.gamma * y).permute(0, 3, 1, 2), block)


def position_code(height, width):
    """Return sines and cosines of the pixel's row, then column: (1, 64, H, W)."""
    ones = torch.ones(1, height, width)
    codes = []
    for dim, count in ((1, height), (2, width)):
        position = ones.cumsum(dim) / (count + 1e-6) * 2 * math.pi
        exponent = 2 * (torch.arange(32) // 2) / 32
        angle = position[..., None] / 10000**exponent
        codes.append(torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), 4).flatten(3))
    return torch.cat(codes, 3).permute(0, 3, 1, 2)


def cross_covariance_attention(xca, tokens):
    """(B, N, C) to (B, N, C)."""
    batch, count, channels = tokens.shape
    qkv = xca.qkv(tokens).reshape(batch, count, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.transpose(-2, -1)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = (q @ k.transpose(-2, -1) * xca.temperature).softmax(dim=-1)
    return xca.proj((attention @ v).permute(0, 3, 1, 2).reshape(batch, count, channels))


def drop_samples(x, block):
    """Zero whole samples with the block's probability in training."""
    if not block.training or not block.drop_path_rate:
        return x
    keep = torch.empty(len(x), 1, 1, 1).bernoulli_(1 - block.drop_path_rate)
    return x / (1 - block.drop_path_rate) * keep


def decode(decoder, features):
    """Return {("disp", scale)} of a `networks.DepthDecoder`."""
    blocks, outputs = decoder.decoder, {}
    x = features[2]
    for step, level in enumerate((2, 1, 0)):
        x = F.elu(padded(blocks[2 * step].conv, x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        if level:
            x = torch.cat((x, features[level - 1]), 1)
        x = F.elu(padded(blocks[2 * step + 1].conv, x))
        if level in decoder.scales:
            head = blocks[6 + decoder.scales.index(level)]
            disparity = F.interpolate(padded(head, x), scale_factor=2, mode="bilinear", align_corners=False)
            outputs["disp", level] = torch.sigmoid(disparity)
    return outputs


def padded(block, x):
    """A 3x3 convolution over the image reflected at its border."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), block.conv.weight, block.conv.bias)
