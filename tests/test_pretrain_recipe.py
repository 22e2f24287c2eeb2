"""ImageNet pre-training: what is called the published recipe is it, and no draw of the augmentation fails."""

import math
import random

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import transforms

from tests.pretraining import frozen_learner, options, words

# isort: split
from augmentation import make_transform, operations, posterize
from learner import learning_rate
from pretraining_options import make_parser

POLICIES = words("rand-m9-mstd0.5-inc1 rand-m10 rand-m10-t3aw-inc1 rand-m99-mmax99-inc1 augmix-m10 original v0r 3a")


def noise(size=(48, 40), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def test_published_defaults():
    wanted = "batch_size 512 epochs 100 update_freq 2 model lite-mono drop_path 0.0 input_size 256 nb_classes 1000 "
    wanted += "data_path data/ILSVRC2012/imagenet/ output_dir ./save seed 0 opt_eps 1e-08 momentum 0.9 "
    wanted += "save_ckpt_freq 1 save_ckpt_num 3 layer_scale_init_value 1e-05 model_ema_decay 0.9995 opt adamw lr 0.001 "
    wanted += "weight_decay 0.05 min_lr 1e-06 warmup_epochs 5 warmup_start_lr 0.0 color_jitter 0.0 smoothing 0.0 "
    wanted += "aa rand-m9-mstd0.5-inc1 train_interpolation bicubic min_crop_size_w 160 max_crop_size_h 320 "
    wanted += "enable_wandb False model_ema False dist_eval True pin_mem True data_set IMNET use_amp True "
    wanted += "project litemono three_aug False usi_eval False wandb_ckpt False reprob 0.0 remode pixel"
    names, values = words(wanted)[::2], words(wanted)[1::2]
    opt = vars(make_parser().parse_args([]))
    assert [str(opt[name]) for name in names] == values


# ---------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("aa", POLICIES)
@pytest.mark.parametrize("magnitude", [0.0, 10.0, 99.0])
def test_every_operation_takes_every_magnitude(aa, magnitude):
    transform = make_transform(options("--aa", aa), (32, 32), is_training=True)
    found = list(operations(transform))
    assert found
    for operation in found:
        operation.prob, operation.magnitude, operation.magnitude_std = 1, magnitude, 0
        for image in (noise(), noise((1, 1)), Image.new("RGB", (32, 32)), Image.new("RGB", (5, 1), "white")):
            assert operation(image).size == image.size


@pytest.mark.parametrize("bits", [*range(-3, 9)])
def test_posterising_keeps_the_highest_bits(bits):
    """As Pillow's formula: a mask of the highest bits, which is empty for zero of them and fewer."""
    image = noise()
    mask = 0xFF & ~(2 ** (8 - bits) - 1)
    assert np.array_equal(np.asarray(posterize(image, bits)), np.asarray(image) & mask)


def test_the_strongest_posterising_of_the_recipe_is_black():
    transform = make_transform(options(), (32, 32), is_training=True)
    (operation,) = (each for each in operations(transform) if each.name.startswith("Posterize"))
    operation.prob, operation.magnitude, operation.magnitude_std = 1, 10, 0
    assert not np.asarray(operation(noise())).any()


@pytest.mark.parametrize("flags, size, steps", [
    ([], 224, [transforms.Resize(256, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)]),
    ([], 256, [transforms.Resize(292, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(256)]),
    (["--train_interpolation", "bilinear", "--crop_pct", "0.95"], 256,
     [transforms.Resize(269, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(256)]),
    (["--train_interpolation", "random"], 384, [transforms.Resize((384, 384), transforms.InterpolationMode.BICUBIC)]),
    (["--crop_pct", "0.5"], 448, [transforms.Resize((448, 448), transforms.InterpolationMode.BICUBIC)]),
])  # fmt: skip
def test_validation_is_a_bicubic_resize_with_a_crop_below_384_pixels_and_without_from_there_on(flags, size, steps):
    image = noise((300, 411))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = np.asarray(transforms.Compose(steps)(image), np.float32) / 255
    wanted = (torch.from_numpy(wanted).permute(2, 0, 1) - mean[:, None, None]) / std[:, None, None]
    found = make_transform(options("--input_size", str(size), *flags), size, is_training=False)(image)
    torch.testing.assert_close(found, wanted)


def test_three_augment_greys_solarises_or_blurs_before_the_automatic_augmentation():
    plain = make_transform(options("--aa", "none"), (32, 32), is_training=True).transforms
    three = make_transform(options("--aa", "none", "--three_aug"), (32, 32), is_training=True).transforms
    assert [type(each) for each in three[:2] + three[3:]] == [type(each) for each in plain]
    image, seen = noise(), set()
    random.seed(0)
    torch.manual_seed(0)
    for _ in range(60):
        out = np.asarray(three[2](image)).astype(int)
        grey = (out == out[..., :1]).all()
        same = (out == np.asarray(image)).mean()
        inverted = (out == 255 - np.asarray(image))[np.asarray(image) >= 192].all()
        seen.add(
            "grey" if grey else "untouched" if same == 1 else "solarised" if inverted and same > 0.5 else "blurred"
        )
    assert seen == {"grey", "untouched", "solarised", "blurred"}


# ---------------------------------------------------------------------------------------------------------- weights


def test_the_head_starts_as_every_linear_of_the_encoder():
    """Kaiming normal over the outputs: a standard deviation of sqrt(2 / classes)."""
    torch.manual_seed(0)
    head = timm.create_model("lite-mono", num_classes=1000).head
    count = head.weight.numel()
    wanted = math.sqrt(2 / 1000)
    assert head.weight.std().item() == pytest.approx(wanted, rel=5 / math.sqrt(2 * count))
    assert abs(head.weight.mean().item()) < 5 * wanted / math.sqrt(count)


def test_everything_with_two_dimensions_decays_temperatures_too_and_nothing_else():
    learner = frozen_learner()
    decays = {id(p): group["weight_decay"] for group in learner.optimiser.param_groups for p in group["params"]}
    temperatures = 0
    for name, value in learner.network.named_parameters():
        assert decays[id(value)] == (0.05 if value.ndim > 1 else 0), name
        temperatures += name.endswith("xca.temperature")
    assert temperatures == 3


def test_learning_rate_warms_up_and_falls_along_a_cosine_and_weight_decay_too():
    flags = ("--epochs", "10", "--warmup_epochs", "2", "--lr", "0.1", "--min_lr", "0.01", "--weight_decay_end", "0.01")
    learner = frozen_learner(*flags)
    rates, decays = [], []
    for learner.step in range(40):
        learner._set_learning_rate()
        learner._set_weight_decay()
        rates.append(learner.rate)
        decays.append(sorted(group["weight_decay"] for group in learner.optimiser.param_groups))
    np.testing.assert_allclose(rates[:8], np.linspace(0, 0.1, 8))
    np.testing.assert_allclose(rates[8:], 0.01 + 0.045 * (1 + np.cos(np.pi * np.arange(32) / 32)))
    assert all(low == 0 for low, _ in decays) and decays[0][1] == 0.05 and decays[20][1] == pytest.approx(0.03)


def test_the_last_step_of_the_warm_up_has_the_highest_rate():
    rates = [learning_rate(step, 100, 5, 1e-5, 1e-3, 1e-6) for step in range(100)]
    assert rates[0] == 1e-5 and rates[4] == rates[5] == max(rates) == pytest.approx(1e-3) and rates[6] < rates[5]
    assert learning_rate(0, 10, 1, 0, 1, 0) == 0 and learning_rate(0, 10, 0, 0, 1, 0) == 1
