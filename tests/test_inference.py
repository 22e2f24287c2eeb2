"""The folded network and the predictor: equal to the networks they stand for, whatever the model, size and batch."""

import numpy as np
import pytest
import torch

from inference import folded
from inference.folded import FoldedDepthNetwork
from inference.post_processing import batch_post_process_disparity
from inference.predictor import Predictor, plain_disparity
from layers import disp_to_depth
from networks.model_table import MODELS
from system.errors import UserError
from tests.reference.seeded_weights import image
from tests.seeded_folders import HEIGHT, MODEL, WIDTH, seeded_networks, write_weights

RTOL = 1e-5


def images(batch=1, height=HEIGHT, width=WIDTH, seed=7):
    return torch.from_numpy(image(seed, (batch, 3, height, width)))


def assert_equal_disparities(networks, given):
    with torch.inference_mode():
        plain, fast = plain_disparity(*networks)(given), FoldedDepthNetwork(*networks).eval()(given)
    assert plain.shape == fast.shape
    torch.testing.assert_close(fast, plain, rtol=RTOL, atol=0)


@pytest.mark.parametrize("model", MODELS)
def test_folding_changes_no_output_of_any_model(model):
    assert_equal_disparities(seeded_networks(model), images())


@pytest.mark.parametrize("size", [(32, 32), (96, 320), (64, 32), (192, 640)])
def test_folding_changes_no_output_at_any_size(size):
    assert_equal_disparities(seeded_networks(height=size[0], width=size[1]), images(1, *size))


def test_folding_changes_no_output_at_the_wide_dilations():
    assert_equal_disparities(seeded_networks(height=320, width=1024), images(1, 64, 128))


@pytest.mark.parametrize("batch", [2, 5])
def test_images_of_a_batch_do_not_mix(batch):
    networks = seeded_networks()
    assert_equal_disparities(networks, images(batch))
    fast = FoldedDepthNetwork(*networks).eval()
    with torch.inference_mode():
        together = fast(images(batch))
        alone = torch.cat([fast(each[None]) for each in images(batch)])
    torch.testing.assert_close(together, alone, rtol=RTOL, atol=0)


def test_sizes_may_alternate():
    networks = seeded_networks()
    fast = FoldedDepthNetwork(*networks).eval()
    for size in ((64, 96), (96, 64), (64, 96)):
        with torch.inference_mode():
            torch.testing.assert_close(fast(images(1, *size)), plain_disparity(*networks)(images(1, *size)),
                                       rtol=RTOL, atol=0)  # fmt: skip


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_size_of_the_blocks_changes_nothing(block, monkeypatch):
    monkeypatch.setattr(folded._PixelNetwork, "_block", lambda self, x: block)
    assert_equal_disparities(seeded_networks(height=32, width=32), images(1, 32, 32))


@pytest.mark.parametrize("threads, cache", [(1, 1 << 12), (8, 1 << 20), (1, 1)])
def test_blocks_cover_all_pixels(threads, cache, monkeypatch):
    monkeypatch.setattr(folded, "_CACHE_BYTES", cache)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert_equal_disparities(seeded_networks(height=32, width=32), images(1, 32, 32))


def test_images_that_are_views_are_read_right():
    networks = seeded_networks()
    wide = images(1, HEIGHT, 2 * WIDTH)
    assert_equal_disparities(networks, wide[..., ::2])
    assert_equal_disparities(networks, wide[..., :WIDTH].to(memory_format=torch.channels_last))


def test_the_input_is_left_as_it_was():
    given = images()
    before = given.clone()
    with torch.inference_mode():
        FoldedDepthNetwork(*seeded_networks()).eval()(given)
    assert torch.equal(given, before)


def test_the_networks_are_left_as_they_were():
    networks = seeded_networks()
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    with torch.inference_mode():
        FoldedDepthNetwork(*networks).eval()(images())
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_constant_image_does_not_divide_by_zero():
    with torch.inference_mode():
        disparity = FoldedDepthNetwork(*seeded_networks()).eval()(torch.full((1, 3, HEIGHT, WIDTH), 0.45))
    assert torch.isfinite(disparity).all()


@pytest.mark.parametrize("fast", [True, False])
def test_the_predictor_gives_the_networks_disparity(weights, fast):
    predictor = Predictor(weights, MODEL, "cpu", fast=fast)
    assert (predictor.height, predictor.width) == (HEIGHT, WIDTH)
    with torch.no_grad():
        expected = plain_disparity(*seeded_networks())(images(2))
    found = predictor.predict(images(2))
    assert found.shape == (2, 1, HEIGHT, WIDTH)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=RTOL)


def test_post_processing_blends_both_predictions(weights):
    predictor = Predictor(weights, MODEL)
    given = images(2)
    one, other = predictor.predict(given), predictor.predict(given.flip(3)).flip(3)
    expected = batch_post_process_disparity(one[:, 0].numpy(), other[:, 0].numpy())
    merged = predictor.predict_post_processed(given)[:, 0]
    np.testing.assert_allclose(merged.numpy(), expected, rtol=RTOL)
    scaled = [disp_to_depth(each[:, 0], 0.1, 100)[0].numpy() for each in (one, other)]
    np.testing.assert_allclose(disp_to_depth(merged, 0.1, 100)[0], batch_post_process_disparity(*scaled), rtol=RTOL)


def test_dilations_given_replace_those_of_the_weights(weights):
    wide = tuple(tuple(2 * d for d in stage) for stage in seeded_networks()[0].dilations)
    found = Predictor(weights, MODEL, dilations=wide).predict(images())
    with torch.no_grad():
        expected = plain_disparity(*seeded_networks(dilations=wide))(images())
        other = plain_disparity(*seeded_networks())(images())
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=RTOL)
    assert (found - other).abs().max() > 1e-4


def test_folding_leaves_nothing_in_float64_for_the_device():
    """What Apple's GPUs lack: emulated, since none is here. No tensor of the network or of its forward pass is wide."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else [out]:
                assert not isinstance(each, torch.Tensor) or each.dtype != torch.float64, function
            return out

    network = FoldedDepthNetwork(*seeded_networks()).eval()
    assert {value.dtype for value in (*network.buffers(), *network.parameters())} <= {torch.float32, torch.int64}
    with torch.inference_mode(), Watch():
        network(images())


def test_weights_without_full_size_are_refused(tmp_path):
    from checkpointing import files
    from networks import DepthDecoder

    folder = write_weights(tmp_path / "weights_0")
    decoder = DepthDecoder(MODELS[MODEL].channels, scales=(1, 2))
    files.write_state(str(folder / "depth.pth"), decoder.state_dict())
    with pytest.raises(UserError, match="full size"):
        Predictor(folder, MODEL)
