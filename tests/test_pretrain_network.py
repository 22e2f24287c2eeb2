"""The classifier of ImageNet pre-training and its optimiser steps."""

import os
import sys

import numpy as np
import pytest
import torch

from networks import LiteMono
from networks.model_table import MODELS
from tests.pretraining import (
    FOLDER,
    ROOT,
    batch,
    frozen_learner,
)

# isort: split
import timm

import classifier
import labelled_images as images
from pretraining_options import parse


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient_at_every_size(name):
    opt = parse(["--multi_scale_sampler", "--model", name])
    model = timm.create_model(name, num_classes=7)
    for height, width in [(256, 256), images.crop_sizes(opt)[0], images.crop_sizes(opt)[-1]]:
        model.zero_grad()
        logits = model(torch.randn(1, 3, height, width))
        assert logits.shape == (1, 7)
        logits.square().sum().backward()
        assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", MODELS)
def test_classification_features_are_the_depth_encoders_last_map(name):
    model, encoder = timm.create_model(name, num_classes=5).eval(), LiteMono(name).eval()
    assert isinstance(model, LiteMono)
    encoder.load_state_dict(classifier.encoder_entries(model.state_dict()))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted = encoder(image)[-1]
        normalised = (image - 0.45) / 0.225
        assert torch.equal(model.forward_features(normalised)[-1], wanted)
        pooled = torch.nn.functional.layer_norm(wanted.mean((2, 3)), wanted.shape[1:2], eps=1e-6)
        torch.testing.assert_close(model(normalised), pooled @ model.head.weight.T + model.head.bias)


def test_a_pretrained_model_cannot_be_asked_of_timm():
    with pytest.raises(ValueError, match="no weights to download"):
        timm.create_model("lite-mono", pretrained=True)


def test_modules_of_the_folder_shadow_none_of_the_project():
    ours = {os.path.splitext(name)[0] for name in os.listdir(FOLDER) if name.endswith(".py")}
    theirs = {os.path.splitext(name)[0] for name in os.listdir(ROOT)}
    assert not ours & (theirs | set(sys.stdlib_module_names))


@pytest.mark.parametrize("cuts", [(4, 4), (6, 2), (2, 2, 2, 2)])
def test_gradient_accumulation_equals_the_larger_batch(cuts):
    whole = batch(8)
    parts = zip(*(value.split(cuts) for value in whole.values()), strict=True)
    one, many = frozen_learner("--opt", "sgd"), frozen_learner("--opt", "sgd")
    losses = one.learn([whole]), many.learn([dict(zip(whole, part, strict=True)) for part in parts])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, a), b in zip(one.network.named_parameters(), many.network.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-6 + 1e-4 * a.grad.abs().max().item(), msg=name)


@pytest.mark.parametrize("flags", [("--mixup", "0.8", "--cutmix", "1", "--smoothing", "0.1"), ("--smoothing", "0.1"),
                                   ("--reprob", "1", "--resplit", "--recount", "2"), ("--amp", "bf16"), ("--use_amp",),
                                   ("--mixup", "1", "--mixup_mode", "elem"), ("--opt", "lamb", "--clip_grad", "1"),
                                   ("--cutmix_minmax", "0.2", "0.8", "--mixup_mode", "pair")])  # fmt: skip
def test_every_way_to_learn_takes_a_step(flags):
    learner = frozen_learner(*flags)
    learner.step = 1
    before = learner.network.head.weight.clone()
    assert np.isfinite(learner.learn([batch(4), batch(5)]))
    assert not torch.equal(before, learner.network.head.weight)


def test_a_moving_average_follows_and_does_not_change_the_training():
    plain, averaged = frozen_learner(), frozen_learner("--model_ema", "--model_ema_decay", "0.75")
    before = plain.network.head.weight.detach().clone()
    for learner in (plain, averaged):
        learner.step = 1
        learner.learn([batch()])
    after = plain.network.head.weight
    assert torch.equal(after, averaged.network.head.weight)
    torch.testing.assert_close(averaged.ema.module.head.weight, 0.75 * before + 0.25 * after)
