"""The training objective: view synthesis, photometric error, auto-masking and smoothness.

Zhang et al. (CVPR 2023), section 3.4, after Godard et al. (ICCV 2019), section 3. Dense maps come first, one reduction
turns them into named terms. Everything is computed in float32, whatever precision the networks ran in; there is no
state and no batch size, and the tie-breaking noise is an argument.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from cpu import per_sample
from layers import (
    EPSILON,
    disp_to_depth,
    get_smooth_loss,
    transformation_from_parameters,
    warp,
)
from losses.photometric import photometric_error, target_sums
from losses.view_synthesis import reprojection_grid

AUTOMASK_NOISE = 1e-5  # breaks ties between identical frames
MASK_WEIGHT = 0.2  # of the predictive mask's cross entropy, after Zhou et al. 2017


class Objective(NamedTuple):
    """What the loss is made of; the fields follow the options of the same names.

    sources: the frames warped into frame 0: offsets, and "s" for the other camera of the pair.
    relative_translation: whether predicted translations are in units of the mean depth (PoseCNN).
    inverted: sources whose motion was predicted from them to frame 0 and has to be inverted.
    """

    scales: tuple
    sources: tuple
    min_depth: float = 0.1
    max_depth: float = 100.0
    smoothness: float = 1e-3
    ssim: bool = True
    average: bool = False
    automask: bool = True
    v1_multiscale: bool = False
    relative_translation: bool = False
    inverted: tuple = ()

    def image_scale(self, scale):
        """The scale of the images that are compared for the disparity of `scale`."""
        return scale if self.v1_multiscale else 0


def noise_like_identity(inputs, objective, generator=None):
    """Draw the auto-mask's noise: {image scale: (B, number of identity errors, H, W)} of variance one."""
    maps = 1 if objective.average else len(objective.sources)
    noise = {}
    for scale in sorted({objective.image_scale(scale) for scale in objective.scales}):
        batch, _, height, width = inputs["color", 0, scale].shape
        device = inputs["color", 0, scale].device
        noise[scale] = torch.randn(batch, maps, height, width, device=device, generator=generator)
    return noise


def compute_losses(inputs, outputs, objective, noise=None):
    """Compare frame 0 with every source as seen through the predicted depth and motion.

    Args:
        inputs: a batch of the data set: ("color", frame, scale), ("K", scale), ("inv_K", scale), "stereo_T".
        outputs: ("disp", scale); ("cam_T_cam", 0, frame), or ("axisangle", 0, frame) and ("translation", 0, frame)
            where the objective takes translations as relative; "predictive_mask" where one is predicted.
        objective: `Objective`.
        noise: as `noise_like_identity` draws it; drawn here if not given.

    Returns:
        (maps, losses). maps: ("depth", 0, scale), ("color", frame, scale), "identity_selection/<scale>".
        losses: "loss" and "loss/<scale>", scalars.
    """
    if objective.automask and noise is None:
        noise = noise_like_identity(inputs, objective)
    if per_sample.suits(outputs["disp", objective.scales[0]]):
        losses, maps = _sample_by_sample(inputs, outputs, objective, noise)
    else:
        maps, losses = {}, {}
        for name, loss, own in _terms(inputs, outputs, objective, noise):
            losses[name] = loss
            maps.update(own)
    losses["loss"] = sum(losses.values()) / len(objective.scales)
    return maps, losses


def _sample_by_sample(inputs, outputs, objective, noise):
    """As the loop over `_terms` in `compute_losses`, by `per_sample.mean_losses`."""
    names = ("disp", "cam_T_cam", "axisangle", "translation")
    predictions = {key: value for key, value in outputs.items() if key[0] in names}
    masks = outputs.get("predictive_mask", {})

    def terms(index, own):
        only = slice(index, index + 1)
        own_inputs = {key: value[only] for key, value in inputs.items() if isinstance(value, torch.Tensor)}
        own_noise = noise and {scale: value[only] for scale, value in noise.items()}
        if masks:
            own["predictive_mask"] = {key: own["predictive_mask", key] for key in masks}
        return _terms(own_inputs, own, objective, own_noise)

    predictions |= {("predictive_mask", key): value for key, value in masks.items()}
    return per_sample.mean_losses(terms, predictions)


def _terms(inputs, outputs, objective, noise):
    """Yield (name, loss, maps) of every scale."""
    targets = {}
    for scale in sorted({objective.image_scale(scale) for scale in objective.scales}):
        targets[scale] = _Target(inputs, scale, objective, noise)
    for scale in objective.scales:
        target = targets[objective.image_scale(scale)]
        disp = outputs["disp", scale].float()
        depth = disp_to_depth(_resized(disp, target.size), objective.min_depth, objective.max_depth)[1]
        maps = {("depth", 0, scale): depth}

        errors = []
        for frame in objective.sources:
            warped = _synthesise(inputs, outputs, frame, depth, target.scale, objective)
            maps["color", frame, scale] = warped
            errors.append(target.error(warped))
        errors = torch.cat(errors, 1)

        loss = 0
        if "predictive_mask" in outputs:
            mask = _resized(outputs["predictive_mask"]["disp", scale].float(), target.size)
            errors = errors * mask
            loss = MASK_WEIGHT * F.binary_cross_entropy(mask, torch.ones_like(mask))
        error = _reduced(errors, objective)
        if target.identity is not None:
            maps[f"identity_selection/{scale}"] = (error < target.identity).float()[:, 0]
            error = torch.minimum(error, target.identity)
        loss = loss + error.mean()

        mean_normalised = disp / (disp.mean((2, 3), keepdim=True) + EPSILON)
        smoothness = get_smooth_loss(mean_normalised, inputs["color", 0, scale])
        yield f"loss/{scale}", loss + objective.smoothness * smoothness / 2**scale, maps


class _Target:
    """Frame 0 at one image size, with all that does not depend on the networks: local sums and identity error."""

    def __init__(self, inputs, scale, objective, noise):
        self.scale, self.ssim = scale, objective.ssim
        self.image = inputs["color", 0, scale]
        self.size = tuple(self.image.shape[-2:])
        self.sums = target_sums(self.image) if self.ssim else None
        self.identity = None
        if objective.automask:
            with torch.no_grad():
                errors = torch.cat([self.error(inputs["color", frame, scale]) for frame in objective.sources], 1)
                if objective.average:
                    errors = errors.mean(1, keepdim=True)
                self.identity = (errors + AUTOMASK_NOISE * noise[scale]).amin(1, keepdim=True)

    def error(self, image):
        return photometric_error(image, self.image, self.sums) if self.ssim else l1_error(image, self.image)


def l1_error(image, target):
    """Return the absolute difference averaged over channels, (B, 1, H, W)."""
    return (image - target).abs().mean(1, keepdim=True)


def _synthesise(inputs, outputs, frame, depth, scale, objective):
    """Return frame 0 as rebuilt from `frame`: source sampled where frame 0's points project, (B, 3, H, W)."""
    transform = _transform(inputs, outputs, frame, depth, objective)
    grid = reprojection_grid(depth, inputs["K", scale], inputs["inv_K", scale], transform)
    return warp(inputs["color", frame, scale], grid)


def _transform(inputs, outputs, frame, depth, objective):
    """Return T_frame_0, (B, 4, 4)."""
    if frame == "s":
        return inputs["stereo_T"]
    if not objective.relative_translation:
        return outputs["cam_T_cam", 0, frame].float()
    unit = (1 / depth).mean((2, 3))[:, None]  # (B, 1, 1)
    axisangle, translation = (outputs[name, 0, frame].float() for name in ("axisangle", "translation"))
    return transformation_from_parameters(axisangle, translation * unit, frame in objective.inverted)


def _reduced(errors, objective):
    return errors.mean(1, keepdim=True) if objective.average else errors.amin(1, keepdim=True)


def _resized(x, size):
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
