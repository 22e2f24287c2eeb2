"""Reduced precision of the networks reaches the same loss; geometry and objective stay in float32."""

import pytest
import torch

import train
from networks import DepthDecoder, PoseCNN
from networks.lite_mono import DepthwiseConv
from tests.short_runs import arguments, newest_state, options
from tests.two_processes import batch
from trainer import Trainer
from training.run.precision import Precision
from training.run.randomness import random_states, restore_random_states, seed_everything

SIZE = (64, 256)
FLAGS = ("--model", "lite-mono-tiny", "--height", SIZE[0], "--width", SIZE[1])
TINY = (*FLAGS, "--pose_model_type", "posecnn", "--drop_path", 0, "--no_cuda")
STEPS = 8
NOISE = 0.02  # relative; two float32 runs with other seeds differ by more


def losses_of(amp):
    """Return the losses of a short run on one made-up batch."""
    trainer = Trainer(options(*TINY, "--amp", amp, "--lr", 1e-3, 1e-5, 31, 1e-4, 1e-5, 31))
    trainer.optimisation.set_epoch(0)
    trainer.network.train()
    return [trainer._optimise([batch(range(2), *SIZE)])[2]["loss"] for _ in range(STEPS)]


@pytest.fixture(scope="module")
def full():
    return losses_of("off")


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_a_short_run_reaches_the_same_loss(full, amp):
    reduced = losses_of(amp)
    assert full[-1] < 0.98 * full[0]  # it learns at all
    assert reduced[-1] == pytest.approx(full[-1], rel=NOISE)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_geometry_and_objective_stay_in_float32(amp):
    trainer = Trainer(options(*TINY, "--amp", amp))
    seen = {}
    trainer.models["encoder"].register_forward_hook(lambda module, _, features: seen.update(dtype=features[-1].dtype))
    outputs, losses = trainer.process_batch(batch(range(1), *SIZE))
    for key in (("cam_T_cam", 0, 1), ("depth", 0, 0), ("color", 1, 0)):
        assert outputs[key].dtype == torch.float32
    assert losses["loss"].dtype == torch.float32
    with trainer.precision.autocast():
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == trainer.precision.dtype


def test_fp16_runs_resume_with_their_scale(synthetic_drive, tmp_path):
    argv = arguments(synthetic_drive, tmp_path, "--amp", "fp16", "--max_steps", 1)
    assert train.main(argv) == 0
    assert newest_state(tmp_path / "run")["optimisation"]["scaler"]["scale"] > 0
    assert train.main([*argv, "--max_steps", "2", "--num_epochs", "2", "--resume"]) == 0


def test_only_fp16_scales_its_gradients():
    cpu = torch.device("cpu")
    assert [Precision(amp, cpu).scaler.is_enabled() for amp in ("off", "bf16", "fp16")] == [False, False, True]


def test_random_states_come_back():
    import random

    import numpy as np

    def draw():
        return random.random(), np.random.rand(), torch.rand(3).tolist(), random.gauss(0, 1), np.random.randn()

    seed_everything(3)
    random.gauss(0, 1), np.random.randn()  # leave half a pair behind
    states = random_states(torch.device("cpu"))
    first = draw()
    restore_random_states(states, torch.device("cpu"))
    assert draw() == first


@pytest.mark.parametrize("dilation", [1, 2, 3, 6])
def test_dilated_convolutions_have_their_gradient_in_bf16(dilation):
    # On the CPU, torch 2.11 to 2.15 leave parts of it unset, so that it holds whatever freed memory held.
    torch.manual_seed(0)
    layer = DepthwiseConv(64, dilation)
    image = torch.rand(2, 64, 12, 40).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(2, 64, 12, 40)
    gradients = []
    for enabled in (False, True, True, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            result = layer(image)
        (result.float() * weights).sum().backward()
        gradients.append(layer.conv.weight.grad)
        junk = [torch.full((64, 1, 3, 3), 1e30) for _ in range(3)]
        del junk
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=0.02 * gradients[0].abs().max().item())


@pytest.mark.parametrize("height, width", [(32, 64), (32, 32), (64, 32)])
def test_the_pose_network_has_its_gradient_in_bf16_on_the_smallest_maps(height, width):
    # On the CPU, torch 2.14 leaves the weight gradient of a strided convolution over maps one pixel wide unset.
    torch.manual_seed(0)
    network = PoseCNN(2)
    frames = torch.rand(2, 6, height, width)
    gradients = []
    for enabled in (False, True, True, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            axisangle, translation = network(frames)
        (axisangle.float().sum() + translation.float().sum()).backward()
        gradients.append({key: p.grad.clone() for key, p in network.named_parameters()})
        junk = [torch.full((256, 256, 3, 3), 1e30, dtype=kind) for kind in (torch.float32, torch.bfloat16)]
        del junk
    for gradient in gradients[1:]:
        worst = {key: ((value - gradients[0][key]).norm() / gradients[0][key].norm()).item()
                 for key, value in gradient.items()}  # fmt: skip
        assert max(worst.values()) < 0.3, worst  # rounding; what is left unset differs by 1 and more


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_bf16_run_at_the_smallest_size_has_finite_gradients(seed):
    trainer = Trainer(options(*TINY, "--amp", "bf16", "--seed", seed, "--height", 32, "--width", 64))
    trainer.optimisation.set_epoch(0)
    trainer.network.train()
    for _ in range(2):
        trainer._optimise([batch(range(4), 32, 64)])  # it raises where a gradient is not finite


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_disparity_is_float32_under_autocast(kind):
    torch.manual_seed(0)
    decoder = DepthDecoder((32, 64, 128))
    features = [torch.rand(1, channels, 48 // 2**i, 160 // 2**i) for i, channels in enumerate((32, 64, 128))]
    seen = {}
    for scale in range(3):
        head = decoder.decoder[6 + scale]
        head.register_forward_pre_hook(lambda _, given, scale=scale: seen.update({scale: given[0]}))
    with torch.no_grad(), torch.autocast("cpu", kind):
        outputs = decoder(features)
    for scale in range(3):
        disparity = outputs["disp", scale]
        assert disparity.dtype == torch.float32
        # The same head, written out in double precision on the very map that it was given.
        conv = decoder.decoder[6 + scale].conv
        padded = torch.nn.functional.pad(seen[scale].double(), (1, 1, 1, 1), mode="reflect")
        with torch.no_grad():
            logits = torch.nn.functional.conv2d(padded, conv.weight.double(), conv.bias.double())
            exact = torch.nn.functional.interpolate(logits, scale_factor=2, mode="bilinear").sigmoid()
        assert (disparity - exact).abs().max() < 1e-6
        assert len(disparity.unique()) > 1000  # in bf16 it would be some dozen
