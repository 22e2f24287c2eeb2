"""Networks, motion, objective and learning rates against figures of the published code (CPU, float32)."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpointing.files import load_strictly, read_state
from cpu import SWITCH, WAYS
from layers import transformation_from_parameters
from networks import DepthDecoder, LiteMono, PoseDecoder, ResnetEncoder
from tests.conftest import ROOT
from tests.reference.seeded_weights import image
from tests.reference.train_step import SMALL, filled, reference_batch
from tests.rounded_products import RoundedProducts
from tests.short_runs import options
from trainer import Trainer
from training.schedule import learning_rate

FIGURES = Path(__file__).parent / "reference"
KEYS = json.loads((FIGURES / "state_dict_keys.json").read_text())
MODELS = ("lite-mono", "lite-mono-small", "lite-mono-tiny", "lite-mono-8m")
# Largest error allowed; relative ones are to the largest value of the figure.
TOLERANCE = {
    "forward": 1e-5,
    "pose": 1e-6,
    "loss": 1e-5,
    "warped": 1e-4,
    "gradient": 1e-2,  # of max(figure, SMALL of the largest)
    "rate": 1e-12,
}


def relative(value, figure):
    return np.abs(value.numpy() - figure).max() / np.abs(figure).max()


@pytest.mark.parametrize("model", MODELS)
def test_state_dicts_have_the_published_keys(model):
    encoder = LiteMono(model)
    for name, network in (("encoder", encoder), ("depth", DepthDecoder(encoder.num_ch_enc))):
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == KEYS[model][name]


def test_pose_state_dicts_have_the_published_keys():
    encoder = ResnetEncoder(18, False, 2)
    for name, network in (("pose_encoder", encoder), ("pose", PoseDecoder(encoder.num_ch_enc, 1, 2))):
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == KEYS["pose"][name]


@pytest.mark.parametrize("model, width, height", [("lite-mono", 640, 192), ("lite-mono-tiny", 1024, 320)])
def test_forward_pass_equals_the_reference(reference, model, width, height):
    figures = reference(f"forward_{model}_{width}x{height}.npz")
    encoder = LiteMono(model, height, width)
    decoder = DepthDecoder(encoder.num_ch_enc)
    with torch.no_grad():
        features = filled(encoder).eval()(torch.from_numpy(image(7, (1, 3, height, width))))
        outputs = filled(decoder).eval()(features)
    for level in range(3):
        assert relative(features[level][:, ::8, ::4, ::4], figures[f"feature_{level}"]) < TOLERANCE["forward"]
        step = 8 // 2**level
        assert relative(outputs["disp", level][:, :, ::step, ::step], figures[f"disp_{level}"]) < TOLERANCE["forward"]


def test_motion_equals_the_reference(reference):
    figures = reference("pose.npz")
    encoder = filled(ResnetEncoder(18, False, 2)).eval()
    decoder = filled(PoseDecoder(encoder.num_ch_enc, 1, 2)).eval()
    frames = torch.cat([torch.from_numpy(image(seed, (2, 3, 192, 640))) for seed in (8, 9)], 1)
    with torch.no_grad():
        axisangle, translation = decoder([encoder(frames)])
        T, inverse = (transformation_from_parameters(axisangle[:, 0], translation[:, 0], way) for way in (False, True))
    for name, value in (("axisangle", axisangle), ("translation", translation), ("T", T), ("T_inverse", inverse)):
        assert np.abs(value.numpy() - figures[name]).max() < TOLERANCE["pose"], name


@pytest.mark.parametrize("without", [*WAYS, "1"])
def test_training_step_equals_the_reference_without_its_fast_ways(reference, without, monkeypatch):
    monkeypatch.setenv(SWITCH, without)
    check_training_step(reference, "default", ())


@pytest.mark.parametrize(
    "name, flags, threads",
    [("default", (), 1), ("default", (), 2), ("no_automask", ("--disable_automasking",), 1),
     ("v1_multiscale", ("--v1_multiscale",), 1)],
)  # fmt: skip
def test_training_step_equals_the_reference(reference, name, flags, threads, threads_of_torch):
    threads_of_torch(threads)
    check_training_step(reference, name, flags)


def test_rounded_matrix_products_do_not_reach_the_geometry(reference, monkeypatch):
    """GPUs round the factors of matrix products to ten bits. The networks may live with that, the pixels may not."""
    rounded = []

    def outside_the_networks():
        frame = sys._getframe()
        files = set()
        while frame:
            files.add(Path(frame.f_code.co_filename))
            frame = frame.f_back
        return not any(path.parent == ROOT / "networks" for path in files)

    whole = Trainer.process_batch

    def process(self, inputs):
        with RoundedProducts(outside_the_networks) as products:
            result = whole(self, inputs)
        rounded.append(products.count)
        return result

    monkeypatch.setattr(Trainer, "process_batch", process)
    monkeypatch.setenv(SWITCH, "1")  # as on a GPU
    check_training_step(reference, "default", ())
    assert rounded == [0]  # and gradients are taken by sums alone, too


def check_training_step(reference, name, flags):
    """Compare losses, motion, warped images and the gradient norm of every parameter with the figures."""
    figures = reference(f"train_step_{name}.npz")
    trainer = Trainer(options("--weights_init", "scratch", "--drop_path", 0, "--no_cuda", *flags))
    for network in trainer.models.values():
        filled(network).train()
    outputs, losses = trainer.process_batch(reference_batch())
    losses["loss"].backward()

    for key in (key for key in figures if key.startswith("loss")):
        assert losses[key].item() == pytest.approx(float(figures[key]), rel=TOLERANCE["loss"]), key
    for frame in (-1, 1):
        motion, warped = outputs["cam_T_cam", 0, frame].detach(), outputs["color", frame, 0].detach()[:, :, ::8, ::8]
        assert np.abs(motion.numpy() - figures[f"cam_T_cam_{frame}"]).max() < TOLERANCE["pose"]
        assert np.abs(warped.numpy() - figures[f"warped_{frame}"]).max() < TOLERANCE["warped"]

    expected = {key.removeprefix("gradnorm/"): float(figures[key]) for key in figures if key.startswith("gradnorm/")}
    norms = {f"{net}/{key}": parameter.grad.norm().item()
             for net, network in trainer.models.items() for key, parameter in network.named_parameters()}  # fmt: skip
    assert norms.keys() == expected.keys()
    least = SMALL * max(expected.values())
    wrong = {key: (norms[key], norm) for key, norm in expected.items()
             if abs(norms[key] - norm) > TOLERANCE["gradient"] * max(norm, least)}  # fmt: skip
    assert not wrong


def test_learning_rates_equal_the_reference():
    schedules = json.loads((FIGURES / "lr_schedule.json").read_text())
    assert schedules
    for numbers, rates in schedules.items():
        high, low, cycle = map(float, numbers.split())
        for epoch, rate in enumerate(rates):
            assert learning_rate(epoch, high, low, cycle) == pytest.approx(rate, abs=TOLERANCE["rate"])


def test_the_published_decoder_loads(published_reference):
    path = published_reference / "published_depth_lite-mono_640x192.pth"
    state = read_state(path)
    assert any(key.endswith("total_ops") for key in state)  # what a profiler left there
    decoder = DepthDecoder(LiteMono("lite-mono").num_ch_enc)
    load_strictly(decoder, state, path)
    assert all(torch.equal(value, state[key]) for key, value in decoder.state_dict().items())
