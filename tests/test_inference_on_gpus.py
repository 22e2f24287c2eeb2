"""Prediction as GPUs do it: half precision on a CPU, CUDA graphs with stand-ins for capture and replay."""

import contextlib

import pytest
import torch

from inference import Predictor
from inference.folded import FoldedDepthNetwork
from inference.predictor import plain_disparity
from inference.replay import MOST_SHAPES, Replayed
from system.errors import UserError
from tests.seeded_folders import MODEL, seeded_networks
from tests.stand_in_capture import stand_in
from tests.test_inference import images

TOLERANCE = {"bfloat16": 0.05, "float16": 0.01}  # absolute, of a sigmoid; bfloat16 has 8 bits


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("fast", [True, False])
def test_half_precision_is_close_and_has_a_float32_head(weights, precision, fast):
    whole = Predictor(weights, MODEL, "cpu").predict(images(2))
    half = Predictor(weights, MODEL, "cpu", fast=fast, precision=precision).predict(images(2))
    assert half.dtype == torch.float32
    assert 0 < (half - whole).abs().max() < TOLERANCE[precision]
    assert len(half.unique()) > 1000  # in bfloat16 it would be some dozen


@pytest.mark.parametrize("precision", TOLERANCE)
def test_reducing_leaves_the_networks_and_the_sums_over_pixels_as_they_were(precision):
    networks = seeded_networks()
    folded = FoldedDepthNetwork(*networks).eval()
    twin = folded.reduced(getattr(torch, precision))
    assert {p.dtype for network in networks for p in network.parameters()} == {torch.float32}
    for mine, reduced in zip(folded.stages, twin.stages, strict=True):
        for name, value in mine[-1].attention.named_buffers():
            assert torch.equal(value, getattr(reduced[-1].attention, name))
        assert reduced[-1].network.first.dtype == getattr(torch, precision)


def test_an_unknown_precision_is_refused(weights):
    with pytest.raises(UserError, match="no such precision; int3; give one of float32"):
        Predictor(weights, MODEL, "cpu", precision="int3")


def test_compiling_is_asked_for_once(weights, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda network: seen.append(network) or network)
    expected = Predictor(weights, MODEL, "cpu").predict(images())
    assert torch.equal(Predictor(weights, MODEL, "cpu", compiled=True).predict(images()), expected)
    assert len(seen) == 1


@pytest.fixture
def capture(monkeypatch):
    """Stand-ins for torch's capture on a CPU: {"recorded": ..., "replayed": ...}; a replay does the work again."""

    def replay(graph):
        _, given, result = next(each for each in capture.of.graphs.values() if each[0] is graph)
        result.copy_(capture.of.function(given))

    return stand_in(monkeypatch, replay, recording=contextlib.nullcontext)


def replayed(**how):
    capture.of = Replayed(plain_disparity(*seeded_networks()), **how)
    return capture.of


@torch.no_grad()
def test_replays_equal_the_network_and_leave_earlier_results_alone(capture):
    run, plain = replayed(single_only=True), plain_disparity(*seeded_networks())
    first, second = images(1), 1 - images(1)
    found = [run(each) for each in (first, second)]
    for each, result in zip((first, second), found, strict=True):
        assert torch.equal(result, plain(each))
    assert capture == {"recorded": 1, "replayed": 2}


@torch.no_grad()
def test_by_itself_only_single_images_are_recorded(capture):
    run = replayed(single_only=True)
    run(images(2))
    assert capture == {"recorded": 0, "replayed": 0}
    replayed()(images(2))
    assert capture == {"recorded": 1, "replayed": 1}


@torch.no_grad()
def test_graphs_of_many_shapes_do_not_pile_up(capture):
    run = replayed()
    for width in range(32, 32 * (MOST_SHAPES + 3), 32):
        run(images(1, 32, width))
    assert len(run.graphs) == MOST_SHAPES


@torch.no_grad()
def test_a_capture_that_fails_is_said_once_and_predictions_go_on(capture, monkeypatch, caplog):
    def fails(graph):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", fails)
    run, plain = replayed(single_only=True), plain_disparity(*seeded_networks())
    for _ in range(2):
        assert torch.equal(run(images(1)), plain(images(1)))
    assert caplog.text.count("not permitted") == 1
    with pytest.raises(RuntimeError):
        replayed()(images(1))


def test_amp_with_an_exported_file_is_one_line(capsys):
    import test_simple

    assert test_simple.main(["--onnx", "x.onnx", "--image_path", ".", "--amp", "fp16"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "--amp with --onnx" in error and error.count("\n") == 1
