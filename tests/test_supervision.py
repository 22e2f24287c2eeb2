"""Terms beside the photometric error, against slow obvious counterparts, closed forms and gradcheck."""

import numpy as np
import pytest
import torch

import train
import trainer
from datasets.known_motion import KnownMotion
from datasets.labels import MeasuredDepth, PseudoLabels
from layers import disp_to_depth
from losses import supervision
from losses.objective import Objective
from losses.supervision import Supervision, supervised_terms
from tests.short_runs import arguments, newest_state
from training.averaged_weights import AveragedWeights
from training.supervision import factor


def maps(seed=0, batch=3, height=7, width=9, unknown=0.3):
    """Depth, label and confidence, (B, 1, H, W) float64; some pixels unknown."""
    rng = np.random.default_rng(seed)
    depth, label = (rng.uniform(1, 20, (batch, 1, height, width)) for _ in range(2))
    known = rng.random(depth.shape) >= unknown
    confidence = np.where(known, rng.uniform(0.2, 1, depth.shape), 0)
    return [torch.from_numpy(each) for each in (depth, np.where(known, label, 0), confidence)]


# --- slow obvious counterparts: one pixel after another --------------------------------------------------------------


def lower_median(values):
    return sorted(values)[(len(values) - 1) // 2]


def without_largest(errors):
    """Return the places of the errors that are not in the largest quarter."""
    middle = lower_median(errors)
    limit = lower_median([error for error in errors if error >= middle])
    return [place for place, error in enumerate(errors) if error <= limit]


def mean(values, weights):
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def known_pixels(depth, label, confidence):
    pixels = zip(*(each.ravel().tolist() for each in (depth, label, confidence)), strict=True)
    return [pixel for pixel in pixels if pixel[2] > 0]


def slow_scale(*item):
    pixels = known_pixels(*item)
    differences = [np.log(depth) - np.log(label) for depth, label, _ in pixels]
    first = lower_median(differences)
    kept = without_largest([abs(each - first) for each in differences])
    second = lower_median([differences[place] for place in kept])
    return mean([abs(differences[place] - second) for place in kept], [pixels[place][2] for place in kept])


def slow_metric(*item):
    pixels = known_pixels(*item)
    return mean([abs(np.log(depth / label)) for depth, label, _ in pixels], [each[2] for each in pixels])


def slow_affine(depth, label, confidence):
    pixels = known_pixels(depth, label, confidence)

    def normalised(values):
        centre = lower_median(values)
        spread = sum(abs(value - centre) for value in values) / len(values)
        return lambda value: (value - centre) / spread

    predicted, wanted = normalised([1 / each[0] for each in pixels]), normalised([each[1] for each in pixels])
    differences = [predicted(1 / d) - wanted(t) for d, t, _ in pixels]
    kept = without_largest([abs(each) for each in differences])
    values = mean([abs(differences[place]) for place in kept], [pixels[place][2] for place in kept])
    terms = []
    height, width = depth.shape[-2:]
    field = [[predicted(1 / depth[0, y, x]) - wanted(label[0, y, x]) for x in range(width)] for y in range(height)]
    for step in (1, 2, 4, 8):
        for down, right in ((step, 0), (0, step)):
            changes, weights = [], []
            for y in range(height - down):
                for x in range(width - right):
                    changes.append(abs(field[y][x] - field[y + down][x + right]))
                    weights.append(float(confidence[0, y, x] * confidence[0, y + down, x + right]))
            if changes:
                terms.append(mean(changes, weights) if sum(weights) else 0.0)
    return values + 0.5 * sum(terms) / len(terms)


SLOW = {"scale": slow_scale, "metric": slow_metric, "affine": slow_affine}


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.parametrize("unknown", [0.0, 0.3, 0.8])
def test_an_error_is_what_going_from_pixel_to_pixel_gives(kind, unknown):
    given = maps(unknown=unknown)
    found = supervision.PSEUDO_ERRORS[kind](*given)
    expected = [SLOW[kind](*(each[index].numpy() for each in given)) for index in range(3)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["metric", "affine"])
def test_gradients_are_those_of_the_value(kind):
    depth, label, confidence = maps(1, batch=2, height=4, width=5)
    error = supervision.PSEUDO_ERRORS[kind]
    assert torch.autograd.gradcheck(lambda each: error(each, label, confidence), depth.requires_grad_())


def test_gradient_of_the_scale_error_is_that_of_the_value_and_leaves_the_scale_alone():
    depth, label, _ = maps(2, batch=1, height=3, width=5, unknown=0)  # of 15 pixels 11 stay: an odd number
    everything = torch.ones_like(label)
    depth.requires_grad_()
    assert torch.autograd.gradcheck(lambda each: supervision.scale_error(each, label, everything), depth)
    supervision.scale_error(depth, label, everything).sum().backward()
    assert abs(float((depth.grad * depth.detach()).sum())) < 1e-12  # the derivative by the logarithm of a factor


def test_scale_labels_are_blind_to_a_factor_and_affine_labels_to_a_factor_and_a_shift():
    depth, label, confidence = maps(3)
    value = supervision.scale_error(depth, label, confidence)
    torch.testing.assert_close(supervision.scale_error(7 * depth, label / 3, confidence), value)
    value = supervision.affine_error(depth, label, confidence)
    shifted = torch.where(confidence > 0, 5 * label + 2, 0)
    torch.testing.assert_close(supervision.affine_error(depth, shifted, confidence), value)


@pytest.mark.parametrize("kind", SLOW)
def test_a_right_prediction_has_no_error_and_wrong_labels_in_a_few_pixels_do_not_count(kind):
    depth, _, confidence = maps(4, unknown=0)
    label = 1 / depth if kind == "affine" else depth.clone()
    assert float(supervision.PSEUDO_ERRORS[kind](depth, label, confidence).max()) < 1e-12
    label[:, :, 0, :3] *= 40
    if kind == "scale":
        assert float(supervision.scale_error(depth, label, confidence).max()) < 1e-12


@pytest.mark.parametrize("kind", SLOW)
def test_an_item_without_labels_adds_nothing_and_has_no_gradient(kind):
    depth, label, confidence = maps(5)
    label[1], confidence[1] = 0, 0
    depth.requires_grad_()
    error = supervision.PSEUDO_ERRORS[kind](depth, label, confidence)
    assert error[1] == 0 and error[0] > 0
    error.sum().backward()
    assert not depth.grad[1].any() and depth.grad[0].any() and depth.grad.isfinite().all()


def test_speed_is_the_relative_difference_of_lengths():
    translations = torch.tensor([[[0.0, 0.3, 0.4], [0.0, 0.0, 3.0]], [[0.0, 0, 1], [0, 0, 1]]], dtype=torch.float64)
    distances = torch.tensor([[1.0, 2.0], [0.0, 0.01]], dtype=torch.float64)
    translations.requires_grad_()
    error = supervision.speed_error(translations, distances)
    torch.testing.assert_close(error.detach(), torch.tensor([0.5, 0.0], dtype=torch.float64))  # too short, too long
    error.sum().backward()
    assert translations.grad[0, 0, 2] < 0 < translations.grad[0, 1, 2]
    assert not translations.grad[1].any()
    assert torch.autograd.gradcheck(lambda each: supervision.speed_error(each, distances), translations)


def batch_and_outputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    outputs = {("disp", scale): torch.rand(2, 1, 32 >> scale, 64 >> scale, generator=generator) for scale in range(3)}
    outputs |= {("cam_T_cam", 0, frame): torch.eye(4).repeat(2, 1, 1) for frame in (-1, 1)}
    for frame in (-1, 1):
        outputs["cam_T_cam", 0, frame][:, 2, 3] = 0.5
    label = 1 + torch.rand(2, 1, 32, 64, generator=generator)
    inputs = {
        "pseudo_label": label,
        "pseudo_confidence": torch.ones_like(label),
        "measured_depth": torch.where(label > 1.9, label, 0),
        "distance": torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
    }
    return inputs, outputs


def test_the_sum_is_the_weighted_one_and_pixels_are_counted():
    inputs, outputs = batch_and_outputs()
    weights = Supervision("metric", 0.5, 0.25, 2.0)
    objective = Objective((0, 1, 2), (-1, 1), supervision=weights)
    total, terms = supervised_terms({**inputs, "pseudo_factor": torch.full((2,), 0.1)}, outputs, objective)
    expected = 0.05 * terms["loss/pseudo_depth"] + 0.25 * terms["loss/depth_supervision"] + 2 * terms["loss/speed"]
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(terms["loss/speed"], torch.tensor(0.5))
    torch.testing.assert_close(terms["pixels/pseudo_depth"], torch.tensor(1.0))
    torch.testing.assert_close(terms["pixels/depth_supervision"], (inputs["measured_depth"] > 0).float().mean())
    full = torch.nn.functional.interpolate(outputs["disp", 1], (32, 64), mode="bilinear")
    depth = disp_to_depth(full, 0.1, 100)[1]
    one = supervised_terms(inputs, outputs, objective._replace(scales=(1,)))[1]["loss/pseudo_depth"]
    torch.testing.assert_close(one, (depth.log() - inputs["pseudo_label"].log()).abs().mean())


def test_without_anything_to_compare_with_there_is_no_term():
    _, outputs = batch_and_outputs()
    assert supervised_terms({}, outputs, Objective((0, 1, 2), (-1, 1))) == (0, {})


@pytest.mark.parametrize("kind", ["scale", "affine"])
def test_agreement_is_the_correlation_over_the_known_pixels(kind):
    inputs, outputs = batch_and_outputs()
    inputs["pseudo_confidence"][0, :, :10] = 0
    inputs["pseudo_confidence"][1] = 0
    objective = Objective((0,), (-1, 1), supervision=Supervision(kind))
    disparity, depth = disp_to_depth(outputs["disp", 0], 0.1, 100)
    mine = disparity[0, 0, 10:] if kind == "affine" else depth[0, 0, 10:].log()
    theirs = inputs["pseudo_label"][0, 0, 10:]
    theirs = theirs if kind == "affine" else theirs.log()
    expected = np.corrcoef(mine.flatten().double().numpy(), theirs.flatten().double().numpy())[0, 1]
    assert supervision.agreement(inputs, outputs, objective).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("schedule, ramp, expected", [
    ("constant", 0.5, [1, 1, 1, 1, 1]), ("warmup", 0.5, [0, 0.5, 1, 1, 1]), ("decay", 0.5, [1, 1, 1, 0.5, 0]),
    ("warmup", 1.0, [0, 0.25, 0.5, 0.75, 1]),
])  # fmt: skip
def test_the_weight_over_the_run(schedule, ramp, expected):
    assert [factor(schedule, ramp, progress) for progress in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(expected)


def test_without_their_options_extras_take_no_part(synthetic_drive, tmp_path, monkeypatch):
    """Nothing of them is made, no term joins the loss, and a run keeps what it kept without them."""

    def refuse(*_, **__):
        raise AssertionError("an extra takes part")

    for kind in (PseudoLabels, MeasuredDepth, KnownMotion, AveragedWeights):
        monkeypatch.setattr(kind, "__init__", refuse)
    names, whole = set(), trainer.compute_losses

    def noting(*given):
        maps, losses = whole(*given)
        names.update(losses)
        return maps, losses

    monkeypatch.setattr(trainer, "compute_losses", noting)
    assert train.main(arguments(synthetic_drive, tmp_path, "--max_steps", 2)) == 0
    assert names == {"loss", "loss/0", "loss/1", "loss/2"}
    assert "average" not in newest_state(tmp_path / "run")
    folders = sorted(path.name for path in (tmp_path / "run" / "models").glob("weights_*"))
    assert folders == ["weights_0", "weights_best"]
