"""The training objective: view synthesis, photometric error, auto-masking and smoothness.

Zhang et al. (CVPR 2023), section 3.4, after Godard et al. (ICCV 2019), section 3: dense error maps, their minimum and
auto-mask, named terms. Everything is computed in float32, whatever precision the networks ran in; there is no state
and no batch size, and the tie-breaking noise is an argument.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from cpu.per_sample import mean_losses
from layers import EPSILON, disp_to_depth, get_smooth_loss, rigid_motion
from losses.photometric import Target
from losses.supervision import Supervision, supervised_terms
from losses.view_synthesis import synthesise

AUTOMASK_NOISE = 1e-5  # breaks ties between identical frames
MASK_WEIGHT = 0.2  # of the predictive mask's cross entropy, after Zhou et al. 2017
LEAST = 1e-38  # of a mask, whose logarithm is taken


class Objective(NamedTuple):
    """What the loss is made of; the fields follow the options of the same names.

    sources: the frames warped into frame 0: offsets, and "s" for the other camera of the pair.
    relative_translation: whether predicted translations are in units of the mean depth (PoseCNN).
    supervision: weights of what is compared beside images, where a batch holds it.
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
    supervision: Supervision = Supervision()

    def image_scale(self, scale):
        """The scale of the images that are compared for the disparity of `scale`."""
        return scale if self.v1_multiscale else 0

    def image_scales(self):
        """All scales of images that are compared, in order."""
        return sorted({self.image_scale(scale) for scale in self.scales})


def noise_like_identity(inputs, objective, generator=None):
    """Draw the auto-mask's noise: {image scale: (B, number of identity errors, H, W)} of variance one."""
    maps = 1 if objective.average else len(objective.sources)
    noise = {}
    for scale in objective.image_scales():
        batch, _, height, width = inputs["color", 0, scale].shape
        device = inputs["color", 0, scale].device
        noise[scale] = torch.randn(batch, maps, height, width, device=device, generator=generator)
    return noise


def compute_losses(inputs, outputs, objective, noise=None):
    """Compare frame 0 with every source as seen through the predicted depth and motion.

    Args:
        inputs: a batch of the data set: ("color", frame, scale), ("K", scale), ("inv_K", scale), "stereo_T", and what
            `losses.supervision` compares with.
        outputs: ("disp", scale); ("cam_T_cam", 0, frame); "predictive_mask" where one is predicted.
        objective: `Objective`.
        noise: as `noise_like_identity` draws it; drawn here if not given.

    Returns:
        (maps, losses). maps: ("depth", 0, scale), ("color", frame, scale), "identity_selection/<scale>".
        losses: "loss", "loss/<scale>" and the terms of `losses.supervision`, scalars.

    Raises:
        FloatingPointError: on a CPU, disparity or motion is not a number.
    """
    if objective.automask and noise is None:
        noise = noise_like_identity(inputs, objective)
    given = {**inputs, **{("noise", scale): each for scale, each in (noise or {}).items()}}
    predicted = {key: value for key, value in outputs.items() if key[0] in ("disp", "cam_T_cam")}
    for (_, scale), mask in outputs.get("predictive_mask", {}).items():
        predicted["predictive_mask", scale] = mask
    maps, losses = mean_losses(_terms, given, predicted, objective)
    losses["loss"] = sum(losses.values()) / len(objective.scales)
    supervised, terms = supervised_terms(inputs, outputs, objective)
    if terms:
        losses |= {"loss": losses["loss"] + supervised, **terms}
    return maps, losses


def _terms(inputs, predicted, objective):
    """Yield (name, loss, maps) of every scale."""
    images = {scale: _images(inputs, scale, objective) for scale in objective.image_scales()}
    for scale in objective.scales:
        target, sources, K, inv_K, identity = images[objective.image_scale(scale)]
        disp = predicted["disp", scale].float()
        depth = disp_to_depth(_resized(disp, target.size), objective.min_depth, objective.max_depth)[1]

        warped = synthesise(sources, depth, K, inv_K, _transforms(inputs, predicted, depth, objective))
        errors = target.error(warped)  # (S, B, 1, H, W)
        loss = 0
        if ("predictive_mask", scale) in predicted:
            mask = _resized(predicted["predictive_mask", scale].float(), target.size)  # (B, S, H, W)
            errors = errors * mask.transpose(0, 1)[:, :, None]
            loss = MASK_WEIGHT * -mask.clamp(min=LEAST).log().mean()  # the cross entropy with 1
        error = _over_sources(errors, objective)
        maps = {("depth", 0, scale): depth}
        maps |= {("color", frame, scale): each for frame, each in zip(objective.sources, warped, strict=True)}
        if identity is not None:
            maps[f"identity_selection/{scale}"] = (error < identity).float()[:, 0]
            error = torch.minimum(error, identity)
        loss = loss + error.mean()

        mean_normalised = disp / (disp.mean((2, 3), keepdim=True) + EPSILON)
        smoothness = get_smooth_loss(mean_normalised, inputs["color", 0, scale])
        yield f"loss/{scale}", loss + objective.smoothness * smoothness / 2**scale, maps


class _Images(NamedTuple):
    """The images compared at one size, and all that does not depend on the networks.

    target: frame 0; sources: (S, B, 3, H, W); K, inv_K: (B, 4, 4).
    identity: what the unwarped sources are wrong by, (B, 1, H, W); None without auto-mask.
    """

    target: Target
    sources: torch.Tensor
    K: torch.Tensor
    inv_K: torch.Tensor
    identity: torch.Tensor | None


def _images(inputs, scale, objective):
    target = Target(inputs["color", 0, scale], objective.ssim)
    sources = torch.stack([inputs["color", frame, scale] for frame in objective.sources])
    identity = None
    if objective.automask:
        errors = target.error(sources)
        if objective.average:
            errors = errors.mean(0, keepdim=True)
        noise = inputs["noise", scale].transpose(0, 1)[:, :, None]
        identity = (errors + AUTOMASK_NOISE * noise).amin(0)
    return _Images(target, sources, inputs["K", scale], inputs["inv_K", scale], identity)


def _transforms(inputs, predicted, depth, objective):
    """Return T_source_0 of every source, (S, B, 4, 4)."""
    unit = (1 / depth).mean((2, 3), keepdim=True)[:, 0] if objective.relative_translation else None  # (B, 1, 1)
    transforms = []
    for frame in objective.sources:
        T = inputs["stereo_T"] if frame == "s" else predicted["cam_T_cam", 0, frame].float()
        if unit is not None and frame != "s":
            T = rigid_motion(T[:, :3, :3], T[:, :3, 3:] * unit)
        transforms.append(T)
    return torch.stack(transforms)


def _over_sources(errors, objective):
    """Reduce (S, B, 1, H, W) to (B, 1, H, W)."""
    return errors.mean(0) if objective.average else errors.min(0)[0]


def _resized(x, size):
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
