"""All variants of the networks: sizes, gradients of every parameter, nothing dead that trains."""

import pytest
import torch

from networks import DepthDecoder, LiteMono, PoseCNN, PoseDecoder, ResnetEncoder
from networks.model_table import MODELS, dilations_for

# Dead entries of the published files: unused norms of the CDC blocks.
DEAD = {"lite-mono": 3072, "lite-mono-small": 2304, "lite-mono-tiny": 2112, "lite-mono-8m": 5184}
COUNTS = {"lite-mono": (2848120, 226627), "lite-mono-small": (2250232, 226627), "lite-mono-tiny": (1955192, 192467),
          "lite-mono-8m": (8139960, 635891)}  # fmt: skip


def without_gradient(*networks):
    return [key for network in networks for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("model", MODELS)
def test_every_trainable_parameter_gets_a_gradient(model):
    torch.manual_seed(0)
    encoder = LiteMono(model, 64, 96, drop_path_rate=0.0, layer_scale_init_value=0.5)
    decoder = DepthDecoder(encoder.num_ch_enc)
    outputs = decoder(encoder(torch.rand(2, 3, 64, 96)))
    sum((value * torch.rand_like(value)).sum() for value in outputs.values()).backward()
    assert not without_gradient(encoder, decoder)


@pytest.mark.parametrize("model", MODELS)
def test_counts_are_the_published_ones_and_the_dead_do_not_train(model):
    encoder = LiteMono(model)
    decoder = DepthDecoder(encoder.num_ch_enc)
    trained = [sum(p.numel() for p in network.parameters()) for network in (encoder, decoder)]
    assert (trained[0] + DEAD[model], trained[1]) == COUNTS[model]
    dead = {key for key in encoder.state_dict() if ".norm." in key and "xca" not in key}
    dead -= {key for key, _ in encoder.named_parameters()}
    assert sum(encoder.state_dict()[key].numel() for key in dead) == DEAD[model]


@pytest.mark.parametrize("height, width", [(32, 32), (32, 96), (160, 64)])
def test_any_multiple_of_32_works(height, width):
    encoder = LiteMono("lite-mono-tiny", height, width).eval()
    decoder = DepthDecoder(encoder.num_ch_enc).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, height, width))
        outputs = decoder(features)
    assert [tuple(each.shape[1:]) for each in features] == [
        (channels, height // 2**level, width // 2**level) for level, channels in enumerate(encoder.num_ch_enc, 2)
    ]
    for scale in range(3):
        assert outputs["disp", scale].shape == (1, 1, height // 2**scale, width // 2**scale)
        assert outputs["disp", scale].min() > 0 and outputs["disp", scale].max() < 1


@pytest.mark.parametrize("height, width", [(33, 64), (64, 100), (31, 32)])
def test_other_sizes_are_refused(height, width):
    with pytest.raises(ValueError, match="multiples of 32"):
        LiteMono("lite-mono-tiny")(torch.rand(1, 3, height, width))


@pytest.mark.parametrize("model", MODELS)
def test_dilations_follow_the_size(model):
    assert LiteMono(model, 192, 640).dilations == dilations_for(model, 192, 640)
    assert LiteMono(model, 96, 320).dilations == dilations_for(model, 192, 640)
    assert LiteMono(model, 320, 1024).dilations == dilations_for(model, 320, 1024)
    assert (dilations_for(model, 192, 640) == dilations_for(model, 320, 1024)) == (model == "lite-mono-8m")


def test_dilations_can_be_given_and_are_counted():
    dilations = ((1, 1, 1), (1, 1, 1), (1, 1, 1, 1, 1, 1))
    encoder = LiteMono("lite-mono-tiny", dilations=dilations)
    assert encoder.dilations == dilations
    assert encoder.stages[2][3].ddwconv.conv.dilation == (1, 1)
    with pytest.raises(ValueError, match="takes 3 [+] 3 [+] 6 dilations"):
        LiteMono("lite-mono-tiny", dilations=((1,), (1,), (1,)))
    with pytest.raises(ValueError, match="unknown model"):
        LiteMono("lite-mono-huge")


def test_no_state_is_kept_between_two_forwards():
    encoder = LiteMono("lite-mono-tiny").eval()
    before = set(vars(encoder))
    with torch.no_grad():
        first = encoder(torch.ones(1, 3, 32, 64) * 0.3)
        encoder(torch.rand(2, 3, 64, 32))
        again = encoder(torch.ones(1, 3, 32, 64) * 0.3)
    assert set(vars(encoder)) == before
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_drop_path_acts_in_training_only():
    torch.manual_seed(0)
    image = torch.rand(4, 3, 32, 32)
    encoder = LiteMono("lite-mono-tiny", drop_path_rate=0.9, layer_scale_init_value=1.0)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(encoder(image)[-1], encoder(image)[-1])
    encoder.eval()
    assert torch.equal(encoder(image)[-1], encoder(image)[-1])
    rates = [block.drop_path_rate for stage in encoder.stages for block in stage]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.9)
    steps = [b - a for a, b in zip(rates, rates[1:], strict=False)]
    assert max(steps) == pytest.approx(min(steps))


@pytest.mark.parametrize("scales", [(0,), (0, 2), (2, 1, 0)])
def test_decoder_answers_at_the_scales_asked_for(scales):
    decoder = DepthDecoder((32, 64, 128), scales, num_output_channels=2)
    outputs = decoder([torch.rand(1, 32, 16, 24), torch.rand(1, 64, 8, 12), torch.rand(1, 128, 4, 6)])
    assert {scale: tuple(outputs["disp", scale].shape) for _, scale in outputs} == {
        scale: (1, 2, 64 // 2**scale, 96 // 2**scale) for scale in scales
    }


@pytest.mark.parametrize("layers, channels, numbers", [
    (18, (64, 64, 128, 256, 512), 11689512), (34, (64, 64, 128, 256, 512), 21797672),
    (50, (64, 256, 512, 1024, 2048), 25557032), (101, (64, 256, 512, 1024, 2048), 44549160),
    (152, (64, 256, 512, 1024, 2048), 60192808),
])  # fmt: skip
def test_resnets_have_torchvisions_shapes(layers, channels, numbers):
    with torch.device("meta"):
        encoder = ResnetEncoder(layers, False, 3)
        features = encoder(torch.rand(1, 9, 64, 96))
    assert tuple(encoder.num_ch_enc) == channels
    assert [tuple(each.shape) for each in features] == [
        (1, width, 64 // 2**level, 96 // 2**level) for level, width in enumerate(channels, 1)
    ]
    counters = sum(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in encoder.state_dict())
    assert counters % 3 == 0
    total = sum(v.numel() for k, v in encoder.state_dict().items() if "running" not in k and "num_batches" not in k)
    assert total == numbers + 6 * 64 * 49  # the first convolution sees three images
    assert not any(key.startswith("encoder.fc") for key, _ in encoder.named_parameters())
    with pytest.raises(ValueError):
        ResnetEncoder(20, False)


@pytest.mark.parametrize("images", [2, 3])
def test_a_widened_resnet_answers_equal_images_as_the_narrow_one(images):
    torch.manual_seed(0)
    narrow = ResnetEncoder(18, False, 1).eval()
    wide = ResnetEncoder(18, False, 1)
    wide.load_state_dict(narrow.state_dict())
    wide._widen(images, tiled=True)
    wide.eval()
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(wide(image.repeat(1, images, 1, 1))[-1], narrow(image)[-1], atol=1e-4, rtol=1e-4)


def test_every_pose_parameter_gets_a_gradient():
    torch.manual_seed(0)
    cnn, decoder, encoder = PoseCNN(3), PoseDecoder((4, 8), 2), ResnetEncoder(18, False, 2)
    axisangle, translation = cnn(torch.rand(2, 9, 64, 64))
    assert axisangle.shape == translation.shape == (2, 2, 1, 3)
    (axisangle.sum() + translation.sum()).backward()
    axisangle, translation = decoder([[torch.rand(2, 8, 2, 3)], [torch.rand(2, 8, 2, 3)]])
    assert axisangle.shape == (2, 1, 1, 3)
    (axisangle.sum() + translation.sum()).backward()
    last = encoder(torch.rand(2, 6, 64, 64))[-1]
    (last * torch.rand_like(last)).sum().backward()
    assert not without_gradient(cnn, decoder, encoder)


def test_motions_start_small():
    torch.manual_seed(0)
    axisangle, translation = PoseCNN(2)(torch.rand(2, 6, 64, 96))
    assert axisangle.abs().max() < 0.01 and translation.abs().max() < 0.01


def test_names_are_loaded_on_demand():
    import networks

    assert set(networks.__all__) == {"LiteMono", "DepthDecoder", "ResnetEncoder", "PoseDecoder", "PoseCNN"}
    with pytest.raises(AttributeError):
        networks.Nothing  # noqa: B018
