"""Terms beside the photometric error: labels of another network, measured depth, and the known motion of the camera.

All are off by default. An item holds what a term compares with ("pseudo_label" and "pseudo_confidence",
"measured_depth", "distance"; zeros where nothing is known); a batch without it has no such term. Labels are compared
with the disparity of every scale at full size, and a term is the mean over items and scales: an item of which nothing
is known adds zero. Differences in logarithms of depth follow Eigen et al. (NeurIPS 2014), the trimmed and normalised
disparity follows MiDaS (Ranftl et al., TPAMI 2022, section 5), the distance driven follows PackNet (Guizilini et al.,
CVPR 2020, section 3.2).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from layers import disp_to_depth

GRADIENT_WEIGHT = 0.5  # of the gradients beside the values, as in MiDaS
GRADIENT_STEPS = (1, 2, 4, 8)  # pixels between the two whose difference is taken
LEAST_DISTANCE = 0.05  # metres between two frames: a shorter way says nothing, the car stands
LEAST = 1e-6  # of a deviation that is divided by


class Supervision(NamedTuple):
    """How strongly each term counts, and what the pseudo-labels are: "scale", "affine" or "metric"."""

    pseudo_kind: str = "scale"
    pseudo_weight: float = 0.0
    depth_weight: float = 0.0
    speed_weight: float = 0.0


def supervised_terms(inputs, outputs, objective):
    """Compare predicted depth and motion with what a batch knows about them.

    Args:
        inputs: "pseudo_label", "pseudo_confidence", "measured_depth": (B, 1, H, W); "distance": (B, frames in time),
            metres; "pseudo_factor": (B,), by which the weight of the pseudo-labels is multiplied at this step.
        outputs: ("disp", scale), ("cam_T_cam", 0, frame).
        objective: `losses.objective.Objective`, with its `supervision`.

    Returns:
        (sum, terms): the weighted sum, a scalar, 0 without terms; and "loss/pseudo_depth", "loss/depth_supervision",
        "loss/speed" unweighted, "pixels/pseudo_depth" and "pixels/depth_supervision", the share that has labels.
    """
    weights, total, terms = objective.supervision, 0, {}
    if "pseudo_label" in inputs:
        label, confidence = inputs["pseudo_label"], inputs["pseudo_confidence"]
        error = PSEUDO_ERRORS[weights.pseudo_kind]
        terms["loss/pseudo_depth"] = _over_scales(error, label, confidence, outputs, objective)
        terms["pixels/pseudo_depth"] = (confidence > 0).float().mean()
        factor = inputs["pseudo_factor"].mean() if "pseudo_factor" in inputs else 1
        total = total + weights.pseudo_weight * factor * terms["loss/pseudo_depth"]
    if "measured_depth" in inputs:
        depth = inputs["measured_depth"]
        terms["loss/depth_supervision"] = _over_scales(metric_error, depth, (depth > 0).float(), outputs, objective)
        terms["pixels/depth_supervision"] = (depth > 0).float().mean()
        total = total + weights.depth_weight * terms["loss/depth_supervision"]
    if "distance" in inputs:
        frames = [frame for frame in objective.sources if frame != "s"]
        translations = torch.stack([outputs["cam_T_cam", 0, frame][:, :3, 3].float() for frame in frames], 1)
        terms["loss/speed"] = speed_error(translations, inputs["distance"]).mean()
        total = total + weights.speed_weight * terms["loss/speed"]
    return total, terms


def _over_scales(error, label, confidence, outputs, objective):
    values = []
    for scale in objective.scales:
        disp = outputs["disp", scale].float()
        if disp.shape[-2:] != label.shape[-2:]:
            disp = F.interpolate(disp, label.shape[-2:], mode="bilinear", align_corners=False)
        depth = disp_to_depth(disp, objective.min_depth, objective.max_depth)[1]
        values.append(error(depth, label, confidence).mean())
    return torch.stack(values).mean()


def agreement(inputs, outputs, objective):
    """Return the correlation of the pseudo-labels with the network's own prediction, a scalar in -1 to 1.

    It is that of the logarithms of depth, of disparity for the affine kind, over the known pixels of each item, and
    their mean over the items that have labels; NaN where none has.
    """
    label, known = inputs["pseudo_label"].flatten(1), (inputs["pseudo_confidence"] > 0).flatten(1)
    disp = F.interpolate(outputs["disp", 0].detach().float(), inputs["pseudo_label"].shape[-2:], mode="bilinear")
    scaled, depth = disp_to_depth(disp, objective.min_depth, objective.max_depth)
    affine = objective.supervision.pseudo_kind == "affine"
    predicted, label = (scaled.flatten(1), label) if affine else (depth.flatten(1).log(), label.clamp(min=LEAST).log())
    weights = known.float()
    predicted, label = ((each - _weighted_mean(each, weights)[:, None]) * weights for each in (predicted, label))
    correlation = (predicted * label).sum(1) / (predicted.norm(dim=1) * label.norm(dim=1)).clamp(min=LEAST)
    return correlation[known.any(1)].mean()


# --- one label and one prediction ----------------------------------------------------------------------------------


def scale_error(depth, label, confidence):
    """Compare with depth that is right up to a factor for each image.

    The error is |log depth - log label| after its median is removed, without the largest quarter; the median of what
    is left is removed again, so that the term neither enlarges nor shrinks the prediction. Medians are held fixed
    in the gradient.

    Args:
        depth: (B, 1, H, W), positive.
        label: as depth, where known.
        confidence: (B, 1, H, W) from 0, unknown, to 1.

    Returns:
        (B,), 0 where an item has no label.
    """
    known = (confidence > 0).flatten(1)
    difference = _log_difference(depth, label, known)
    kept = _without_largest((difference - _median(difference, known)).abs(), known)
    return _weighted_mean((difference - _median(difference, kept)).abs(), kept * confidence.flatten(1))


def metric_error(depth, label, confidence):
    """Compare with depth in metres: the mean of |log depth - log label|. Arguments and result as `scale_error`."""
    difference = _log_difference(depth, label, (confidence > 0).flatten(1))
    return _weighted_mean(difference.abs(), confidence.flatten(1))


def affine_error(depth, label, confidence):
    """Compare with disparity that is right up to a factor and a shift for each image.

    Both disparities lose their median and are divided by their mean absolute deviation. The error is the difference
    without its largest quarter, plus `GRADIENT_WEIGHT` times the difference of gradients over `GRADIENT_STEPS` pixels.

    Args:
        depth: (B, 1, H, W), positive.
        label: disparity, in any unit and from any origin, where known.
        confidence: as `scale_error`.

    Returns:
        (B,), 0 where an item has no label.
    """
    known = (confidence > 0).flatten(1)
    difference = _normalised(1 / depth.flatten(1), known) - _normalised(label.flatten(1), known)
    kept = _without_largest(difference.detach().abs(), known)
    values = _weighted_mean(difference.abs(), kept * confidence.flatten(1))
    gradients = _gradient_error(difference.view_as(depth), confidence)
    return values + GRADIENT_WEIGHT * gradients


PSEUDO_ERRORS = {"scale": scale_error, "affine": affine_error, "metric": metric_error}


def speed_error(translations, distances):
    """Compare the lengths of predicted motions with the metres driven: | |t| - distance | / distance.

    The photometric error, which knows depth in units of the motion alone, makes depth follow.

    Args:
        translations: (B, frames, 3).
        distances: (B, frames), metres; 0 where unknown.

    Returns:
        (B,), the mean over the frames whose distance is known, 0 where none is.
    """
    known = (distances > LEAST_DISTANCE).float()
    distance = torch.where(known > 0, distances, 1)
    return _weighted_mean(((translations.norm(dim=2) - distance) / distance).abs(), known)


# --- pieces --------------------------------------------------------------------------------------------------------


def _log_difference(depth, label, known):
    """Return log depth - log label, (B, H*W), 0 where unknown."""
    label = torch.where(known, label.flatten(1), 1)
    return torch.where(known, depth.flatten(1).log() - label.log(), 0)


def _median(values, known, held=True):
    """Return the median of the known values of each row, (B, 1); 0 where nothing is known."""
    if held:
        values = values.detach()
    median = torch.where(known, values, torch.nan).nanmedian(1, keepdim=True)[0]
    return torch.where(known.any(1, keepdim=True), median, 0)


def _without_largest(errors, known):
    """Return a mask without the largest quarter of each row: what is above the median of the upper half."""
    errors = errors.detach()
    upper = known & (errors >= _median(errors, known))
    return known & (errors <= _median(errors, upper))


def _normalised(disparity, known):
    centred = torch.where(known, disparity - _median(disparity, known, held=False), 0)
    return centred / _weighted_mean(centred.abs(), known.float())[:, None].clamp(min=LEAST)


def _gradient_error(difference, confidence):
    """Return the mean absolute difference between pixels some steps apart, (B,), averaged over steps and directions."""
    terms = []
    for step in GRADIENT_STEPS:
        for side in (2, 3):
            size = difference.shape[side] - step
            if size > 0:
                first, second = (difference.narrow(side, start, size) for start in (0, step))
                both = confidence.narrow(side, 0, size) * confidence.narrow(side, step, size)
                terms.append(_weighted_mean((first - second).abs().flatten(1), both.flatten(1)))
    return torch.stack(terms).mean(0) if terms else difference.new_zeros(len(difference))


def _weighted_mean(values, weights):
    """Return the means over rows, (B,), 0 where all weights are 0."""
    total = weights.sum(1)
    return (values * weights).sum(1) / torch.where(total > 0, total, 1)
