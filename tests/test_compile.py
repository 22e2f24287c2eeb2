"""torch.compile of the training step: a graph for the networks and one for the loss, made once, equal to eager."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import train
from cpu import SWITCH
from datasets import jitter, on_device
from tests.short_runs import arguments, options
from trainer import Trainer

SIZE = (32, 64)
VARIANTS = {
    "default": (),
    "stereo": ("--use_stereo",),
    "mask": ("--predictive_mask", "--disable_automasking"),
    "v1_multiscale": ("--v1_multiscale",),
    "posecnn": ("--pose_model_type", "posecnn"),
    "shared": ("--pose_model_type", "shared"),
    "one scale": ("--scales", "0"),
}


def batch(count, sources, scales, seed):
    """A batch of smooth moving pictures, as the data sets make it."""
    generator, (height, width) = torch.Generator().manual_seed(seed), SIZE
    picture = torch.rand(count, 3, height, width + 32, generator=generator)
    picture = torch.nn.functional.avg_pool2d(picture, 9, 1, 4)
    inputs = {}
    for frame, start in zip((0, *sources), (8, 4, 12, 16), strict=False):
        full = picture[..., start : start + width].contiguous()
        inputs["color_aug", frame, 0] = full
        for scale in range(3):
            inputs["color", frame, scale] = torch.nn.functional.avg_pool2d(full, 2**scale)
    for scale in range(3):
        K = torch.tensor([[0.58 * width, 0, width / 2, 0], [0, 1.92 * height, height / 2, 0]]) / 2**scale
        K = torch.cat((K, torch.eye(4)[2:])).expand(count, 4, 4)
        inputs["K", scale], inputs["inv_K", scale] = K.contiguous(), torch.linalg.inv(K)
    inputs["stereo_T"] = torch.eye(4).repeat(count, 1, 1)
    inputs["stereo_T"][:, 0, 3] = 0.1
    return inputs


@pytest.fixture
def aot_eager(monkeypatch):
    """Compile by tracing alone, and start with no graphs."""
    backend = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **more: backend(*args, **(more | {"backend": "aot_eager"})))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(
        self, "_compiled_call_impl", backend(self._call_impl, backend="aot_eager")))  # fmt: skip
    monkeypatch.setenv(SWITCH, "1")  # eager as on a GPU
    torch._dynamo.reset()
    counters.clear()


class ValidationData:
    """Stands for `TrainingData` in validation: two batches, the last one short."""

    val_set = (0, 1, 2, 3, 4)

    def __init__(self, trainer):
        self.trainer = trainer

    def validation(self):
        return [batch(count, self.trainer.network.sources, self.trainer.opt.scales, count) for count in (3, 2)]


def nothing(*given):
    """Stand for the reporter's method."""


@pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS)
def test_compiled_steps_are_two_graphs_that_are_made_once_and_equal_eager(flags, aot_eager):
    words = ("--weights_init", "scratch", "--model", "lite-mono-tiny", "--height", SIZE[0], "--width", SIZE[1],
             "--no_cuda", "--batch_size", 3, "--drop_path", 0, *flags)  # fmt: skip
    eager, compiled = Trainer(options(*words)), Trainer(options(*words, "--compile"))
    compiled.network.load_state_dict(copy.deepcopy(eager.network.state_dict()))
    results = []
    for trainer in (eager, compiled):
        trainer.network.train()
        torch.manual_seed(0)
        _, losses = trainer.process_batch(batch(3, trainer.network.sources, trainer.opt.scales, 0))
        losses["loss"].backward()
        results.append((losses["loss"].item(), [p.grad for p in trainer.network.parameters() if p.grad is not None]))
    (loss, gradients), (other, others) = results
    assert other == pytest.approx(loss, rel=1e-5)
    mine, theirs = (torch.cat([each.flatten() for each in every]) for every in (gradients, others))
    assert (mine - theirs).norm() <= 1e-3 * mine.norm()
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"], counters
    for count in (3, 2, 3):  # a batch with bad samples is a short one
        compiled.process_batch(batch(count, compiled.network.sources, compiled.opt.scales, count))
        compiled.data, compiled.reporter = ValidationData(compiled), SimpleNamespace(validation=nothing)
        assert compiled._validate()  # between steps, in eval mode and without gradients
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"], counters


def test_a_break_in_the_graph_is_noticed(aot_eager):
    trainer = Trainer(options("--weights_init", "scratch", "--model", "lite-mono-tiny", "--height", SIZE[0], "--width",
                              SIZE[1], "--no_cuda", "--batch_size", 3, "--scales", 0, "--compile"))  # fmt: skip
    trainer.models["depth"].register_forward_hook(lambda *_: torch._dynamo.graph_break())
    trainer.process_batch(batch(3, trainer.network.sources, trainer.opt.scales, 0))
    assert counters["graph_break"] and counters["stats"]["unique_graphs"] > 2


def test_the_augmentation_is_one_graph_and_equals_eager(aot_eager):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, *SIZE, generator=generator)
    tables = [torch.from_numpy(jitter.draw(np.random.default_rng(seed))) for seed in range(5)]
    tables = torch.stack([*tables, torch.tensor(jitter.NONE)])
    compiled = torch.compile(jitter.apply_batch)
    for _ in range(2):
        torch.testing.assert_close(compiled(images, tables), jitter.apply_batch(images, tables), atol=1e-6, rtol=0)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"], counters


def test_training_compiles_the_augmentation(synthetic_drive, tmp_path, monkeypatch):
    seen = []

    def compiled(function, **_):
        return lambda *given: seen.append(function) or function(*given)

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(torch.nn.Module, "compile", nothing)
    monkeypatch.setattr(on_device, "_jittered", lambda images, tables, apply_batch: apply_batch(images, tables))
    argv = arguments(synthetic_drive, tmp_path, "--compile", "--cache", "ram", "--max_steps", 1)
    assert train.main(argv) == 0
    assert seen.count(jitter.apply_batch) >= 1
