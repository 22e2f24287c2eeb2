"""Networks start as published: each tensor's mean and spread, and a pose network that can tell its frames' order."""

import json
import math

import pytest
import torch

from networks import DepthDecoder, LiteMono, PoseDecoder, ResnetEncoder
from networks.model_table import MODELS
from networks.resnet_encoder import DEPTHS
from tests.conftest import ROOT

# Standard errors by which two samples may differ: of some 1,090 tensors the most extreme one stays well below.
SIGMAS = 6
ROUNDING = 1e-6  # of the figures
SEEDS = 4  # pooled in the figures


@pytest.fixture(scope="module")
def published():
    return json.loads((ROOT / "tests" / "reference" / "initial_weights.json").read_text(encoding="utf-8"))


def assert_starts_as(network, figures):
    """Compare every floating tensor of a network with [mean, std] of the published one."""
    tensors = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    assert tensors.keys() == figures.keys()
    for key, value in tensors.items():
        mean, std = figures[key]
        if std == 0:
            assert torch.allclose(value, torch.tensor(mean), atol=ROUNDING), key
            continue
        error = SIGMAS * std * math.sqrt((1 + 1 / SEEDS) / value.numel())  # of a mean; of a spread 1/sqrt(2) of it
        assert abs(value.mean().item() - mean) <= error + ROUNDING, key
        if value.numel() > 30:
            assert abs(value.std(correction=0).item() - std) <= error / math.sqrt(2) + ROUNDING, key


@pytest.mark.parametrize("model", MODELS)
def test_depth_networks_start_as_published(published, model):
    torch.manual_seed(0)
    encoder = LiteMono(model)
    assert_starts_as(encoder, published[f"{model}/encoder"])
    assert_starts_as(DepthDecoder(encoder.num_ch_enc), published[f"{model}/depth"])


def test_pose_networks_start_as_published(published):
    torch.manual_seed(0)
    encoder = ResnetEncoder(18, False, 2)
    assert_starts_as(encoder, published["pose_encoder_18"])
    assert_starts_as(PoseDecoder(encoder.num_ch_enc, 1, 2), published["pose"])


@pytest.mark.parametrize("layers", DEPTHS)
@pytest.mark.parametrize("images", [2, 3])
def test_a_resnet_from_scratch_draws_its_first_convolution_for_all_images(layers, images):
    torch.manual_seed(layers)
    encoder = ResnetEncoder(layers, False, images).eval()
    weight = encoder.encoder.conv1.weight.detach()
    assert weight.shape == (64, 3 * images, 7, 7)
    expected = math.sqrt(2 / (64 * 7 * 7))  # Kaiming normal, fan_out
    error = SIGMAS * expected / math.sqrt(weight.numel())
    assert abs(weight.mean().item()) < error and abs(weight.std().item() - expected) < error
    within = [(weight.abs() < factor * expected).float().mean().item() for factor in (1, 2)]
    assert within == pytest.approx([0.6827, 0.9545], abs=0.02)  # of a normal distribution
    each = weight.view(64, images, 3 * 49).transpose(0, 1).reshape(images, -1)
    others = torch.corrcoef(each).fill_diagonal_(0)
    assert others.abs().max() < SIGMAS / math.sqrt(each.shape[1])  # independent between the images


@pytest.mark.parametrize("layers", DEPTHS)
@pytest.mark.parametrize("images", [2, 3])
def test_the_order_of_the_images_shows_in_the_answer_from_the_start(layers, images):
    torch.manual_seed(layers)
    encoder = ResnetEncoder(layers, False, images)
    frames = torch.rand(images, 2, 3, 32, 64)
    with torch.no_grad():  # in training mode: BatchNorm with the batch's own statistics, as in the first step
        forwards = encoder(torch.cat(list(frames), 1))[-1]
        backwards = encoder(torch.cat(list(frames.flip(0)), 1))[-1]
    assert (forwards - backwards).norm() / forwards.norm() > 0.05


@pytest.mark.parametrize("images", [2, 3])
def test_imagenet_weights_are_tiled_and_the_order_then_does_not_show(monkeypatch, images):
    from torchvision import models

    build = models.resnet18
    monkeypatch.setattr(models, "resnet18", lambda weights: build())  # stands for a download
    torch.manual_seed(0)
    encoder = ResnetEncoder(18, True, images).eval()
    parts = encoder.encoder.conv1.weight.detach().chunk(images, 1)
    assert all(torch.equal(part, parts[0]) for part in parts)
    frames = torch.rand(images, 1, 3, 32, 64)
    with torch.no_grad():
        one, other = (encoder(torch.cat(list(each), 1))[-1] for each in (frames, frames.flip(0)))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
