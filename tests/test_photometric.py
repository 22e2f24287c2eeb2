"""The fast ways of the training step against the plain ones: numbers and gradients."""

import pytest
import torch

from benchmark.plain import depth_network, objective
from cpu import SWITCH
from cpu import pixel_network as pixels
from cpu.photometric_error import PhotometricError, local_sum, local_sum_adjoint
from layers import backproject, get_smooth_loss, local_statistics, project, reflected, ssim_error, window_mean
from losses.objective import Objective, compute_losses, noise_like_identity
from losses.photometric import SSIM_WEIGHT, photometric_error
from losses.view_synthesis import reprojection_grid

HEIGHT, WIDTH = 64, 96


def pictures(count, dtype=torch.float64, height=9, width=7):
    return torch.rand(count, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(count))


def batch(count=2):
    from benchmark.training_step import made_up_batch

    return made_up_batch(count, HEIGHT, WIDTH, "cpu")


def predictions(count=2, masked=False):
    generator = torch.Generator().manual_seed(3)
    outputs = {("disp", s): torch.rand(count, 1, HEIGHT >> s, WIDTH >> s, generator=generator) for s in range(3)}
    for frame in (-1, 1):
        outputs["cam_T_cam", 0, frame] = torch.eye(4) + 0.02 * torch.rand(count, 4, 4, generator=generator)
    leaves = [value.requires_grad_() for value in outputs.values()]
    if masked:
        masks = {("disp", s): torch.rand(count, 2, HEIGHT >> s, WIDTH >> s, generator=generator) for s in range(3)}
        leaves += [value.requires_grad_() for value in masks.values()]
        outputs["predictive_mask"] = masks
    return outputs, leaves


def test_local_mean_and_sum_are_average_pooling_over_the_reflected_image():
    image = pictures(2).requires_grad_()
    pooled = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(image, (1, 1, 1, 1), mode="reflect"), 3, 1)
    torch.testing.assert_close(window_mean(reflected(image)), pooled)
    torch.testing.assert_close(local_sum(image.detach()), 9 * pooled.detach())
    gradient = pictures(2).flip(2)
    torch.testing.assert_close(local_sum_adjoint(gradient), 9 * torch.autograd.grad(pooled, image, gradient)[0])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_reprojection_and_its_gradient_equal_points_lifted_and_projected(dtype, tolerance):
    generator = torch.Generator().manual_seed(5)
    depth = (1 + 20 * torch.rand(2, 1, 12, 17, dtype=dtype, generator=generator)).requires_grad_()
    K = torch.eye(4, dtype=dtype).repeat(2, 1, 1)
    K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2] = 9, 11, 8, 6
    T = (torch.eye(4, dtype=dtype) + 0.05 * torch.rand(2, 4, 4, dtype=dtype, generator=generator)).requires_grad_()
    fast = reprojection_grid(depth, K, K.inverse(), T)
    plain = project(backproject(depth, K.inverse()), K, T, 12, 17)
    torch.testing.assert_close(fast, plain, rtol=tolerance, atol=tolerance)
    gradient = torch.rand(plain.shape, dtype=dtype, generator=generator)
    grad_fast, grad_plain = (torch.autograd.grad(each, (depth, T), gradient) for each in (fast, plain))
    for ours, theirs in zip(grad_fast, grad_plain, strict=True):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("size", [(3, 3), (2, 5), (9, 7)])
def test_written_out_gradient_equals_automatic_differentiation(size):
    image, target = (pictures(count, height=size[0], width=size[1])[:2] for count in (2, 3))
    image.requires_grad_()
    gradient = torch.rand(2, 1, *size, dtype=torch.float64)
    fast = PhotometricError.apply(image, target, *local_statistics(target)[1:], SSIM_WEIGHT)
    plain = photometric_error(image[None], target, local_statistics(target))[0]
    torch.testing.assert_close(fast, plain)
    grad_fast, grad_plain = (torch.autograd.grad(each, image, gradient)[0] for each in (fast, plain))
    torch.testing.assert_close(grad_fast, grad_plain)


def test_similarity_and_smoothness_equal_the_plain_ones():
    x, y = pictures(2), pictures(4)[:2]
    torch.testing.assert_close(ssim_error(x, y), objective.ssim(x, y))
    torch.testing.assert_close(get_smooth_loss(x[:, :1], y), objective.edge_aware(x[:, :1], y))


@pytest.mark.parametrize("threads", [1, 2])
def test_losses_and_gradients_equal_the_plain_objective_in_double_precision(threads, threads_of_torch):
    threads_of_torch(threads)
    inputs, (outputs, leaves) = batch(), predictions()
    noise = noise_like_identity(inputs, Objective((0, 1, 2), (-1, 1)), torch.Generator().manual_seed(1))
    maps, losses = compute_losses(inputs, outputs, Objective((0, 1, 2), (-1, 1)), noise)

    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact_inputs = {key: value.double() for key, value in inputs.items()}
    torch.set_default_dtype(torch.float64)
    try:
        exact, warped = objective.compute_losses(
            exact_inputs, dict(zip(outputs, exact_leaves, strict=True)), noise=noise[0].double()
        )
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(losses["loss"].double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(maps["color", 1, 2].double(), warped[1, 2].detach(), rtol=0, atol=1e-4)
    gradients, wanted = torch.autograd.grad(losses["loss"], leaves), torch.autograd.grad(exact, exact_leaves)
    for ours, theirs in zip(gradients, wanted, strict=True):
        errors = (ours - theirs).abs().flatten().sort().values
        assert errors.norm() < 3e-2 * theirs.norm()  # float32 puts a few samples on the other side of a kink
        if len(errors) > 100:  # maps: all but these few agree closely
            assert errors[: len(errors) - len(errors) // 100].norm() < 1e-3 * theirs.norm()


def test_the_compiled_objective_is_one_graph_and_equals_the_other():
    inputs, chosen = batch(), Objective((0, 1, 2), (-1, 1))
    noise = noise_like_identity(inputs, chosen, torch.Generator().manual_seed(1))
    results = []
    for function in (compute_losses, torch.compile(compute_losses, backend="aot_eager", fullgraph=True)):
        outputs, leaves = predictions()
        loss = function(inputs, outputs, chosen, noise)[1]["loss"]
        results.append((loss.detach(), torch.autograd.grad(loss, leaves)))
    (loss, gradients), (compiled, grad_compiled) = results
    torch.testing.assert_close(loss, compiled, rtol=1e-5, atol=0)
    for ours, theirs in zip(grad_compiled, gradients, strict=True):
        assert (ours - theirs).norm() < 3e-2 * theirs.norm()  # float32 puts a few samples on the other side of a kink


@pytest.mark.parametrize("change", [
    {}, {"average": True}, {"ssim": False}, {"automask": False}, {"v1_multiscale": True},
    {"automask": False, "masked": True},
])  # fmt: skip
def test_sample_by_sample_equals_the_whole_batch(monkeypatch, change):
    change = dict(change)
    masked = change.pop("masked", False)
    inputs, chosen = batch(), Objective((0, 1, 2), (-1, 1), **change)
    for scale in (1, 2):
        for frame in (-1, 0, 1):
            inputs["color", frame, scale] = torch.nn.functional.avg_pool2d(inputs["color", frame, 0], 2**scale)
        for name in ("K", "inv_K"):
            inputs[name, scale] = inputs[name, 0]
    noise = noise_like_identity(inputs, chosen, torch.Generator().manual_seed(1)) if chosen.automask else None
    results = []
    for whole in (False, True):
        if whole:
            monkeypatch.setenv(SWITCH, "per_sample")
        outputs, leaves = predictions(masked=masked)
        maps, losses = compute_losses(inputs, outputs, chosen, noise)
        weighted = losses["loss"] + 2 * losses["loss/1"]
        results.append((maps, losses, torch.autograd.grad(weighted, leaves)))
    (maps, losses, gradients), (whole_maps, whole_losses, whole_gradients) = results
    assert maps.keys() == whole_maps.keys() and losses.keys() == whole_losses.keys()
    for key in losses:
        torch.testing.assert_close(losses[key], whole_losses[key])
    for key in maps:
        torch.testing.assert_close(maps[key], whole_maps[key].detach())
    for ours, theirs in zip(gradients, whole_gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-3 * theirs.norm()


@pytest.mark.parametrize("count", [1, 7, 64])
def test_pixel_network_equals_the_plain_one_in_blocks_of_any_size(monkeypatch, count):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 8, 5), (30, 5), (30,), (5, 30), (5,))
    tensors = [torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in shapes]
    monkeypatch.setattr(pixels, "_CACHE_BYTES", 30 * 8 * count // torch.get_num_threads())
    fast, plain = pixels.pixel_network(*tensors), pixels.plain_pixel_network(*tensors)
    torch.testing.assert_close(fast, plain)
    gradient = torch.randn(plain.shape, dtype=torch.float64, generator=generator)
    grad_fast, grad_plain = (torch.autograd.grad(each, tensors, gradient) for each in (fast, plain))
    for ours, theirs in zip(grad_fast, grad_plain, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [False, True])
def test_networks_equal_the_plain_ones(training):
    from tests.seeded_folders import seeded_networks

    encoder, decoder = seeded_networks()
    encoder.train(training)
    for module in encoder.modules():
        if hasattr(module, "drop_path_rate"):
            module.drop_path_rate = 0.0
    image = batch()["color_aug", 0, 0]
    results = []
    for encode, decode in ((encoder, decoder), (lambda x: depth_network.encode(encoder, x),
                                                lambda x: depth_network.decode(decoder, x))):  # fmt: skip
        outputs = decode(encode(image))
        weights = [*encoder.parameters(), *decoder.parameters()]
        gradients = torch.autograd.grad(sum(each.square().mean() for each in outputs.values()), weights)
        results.append((outputs, gradients))
    (ours, grad_ours), (plain, grad_plain) = results
    for key in plain:
        torch.testing.assert_close(ours[key], plain[key], rtol=1e-5, atol=1e-5)
    largest = max(each.norm() for each in grad_plain)
    for mine, theirs in zip(grad_ours, grad_plain, strict=True):
        assert (mine - theirs).norm() < 1e-2 * max(theirs.norm(), 1e-4 * largest)
