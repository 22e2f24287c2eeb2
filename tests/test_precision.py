"""Reduced precision of the networks reaches the same loss; geometry and objective stay in float32."""

import pytest
import torch

import train
from networks.lite_mono import DepthwiseConv
from tests.short_runs import arguments, newest_state, options
from tests.two_processes import batch
from trainer import Trainer
from training.run.precision import Precision, random_states, restore_random_states, seed_everything

# Wider than elsewhere: on the CPU, torch 2.15 leaves bf16 weight gradients of a convolution over 1x1 maps unset.
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
