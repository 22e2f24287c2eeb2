"""From the options to what items and objective hold beside images: labels, measured depth, distances, weights."""

import logging

import torch

from datasets.known_motion import KnownMotion
from datasets.labels import MeasuredDepth, PseudoLabels
from losses.supervision import Supervision
from system.errors import UserError

log = logging.getLogger(__name__)


def supervision_of(opt):
    """Return the `Supervision` that the options describe."""
    return Supervision(
        pseudo_kind=opt.pseudo_kind,
        pseudo_weight=opt.pseudo_weight if opt.pseudo_depth else 0.0,
        depth_weight=opt.depth_supervision,
        speed_weight=opt.speed_weight,
    )


def add_supervision(opt, dataset):
    """Give the training items what the options compare them with, once it is known to be there.

    Raises:
        UserError: it is nowhere, or damaged.
    """
    extras = []
    if opt.pseudo_depth:
        labels = PseudoLabels(opt.pseudo_depth, opt.pseudo_kind)
        log.info("pseudo-labels for %d of %d training items in %s", labels.check(dataset), len(dataset), labels.folder)
        extras.append(labels)
    if opt.depth_supervision:
        if not dataset.has_depth():
            raise UserError("the data set has no depth to learn from", f"--depth_supervision with {opt.data_path}",
                            "add its scans or maps, or leave the option out")  # fmt: skip
        extras.append(MeasuredDepth())
    if opt.speed_weight:
        motion = KnownMotion()
        log.info("distances driven for %d of %d training items", motion.check(dataset), len(dataset))
        extras.append(motion)
    dataset.extras = tuple(extras)


def scheduled(opt, progress, count, device):
    """Return what a step adds to a batch of `count` items: {"pseudo_factor": (count,)}, nothing where it is always 1.

    Args:
        opt: the options.
        progress: share of the run that is done, 0 to 1.
    """
    if not opt.pseudo_depth or opt.pseudo_schedule == "constant":
        return {}
    now = factor(opt.pseudo_schedule, opt.pseudo_ramp, progress)
    return {"pseudo_factor": torch.full((count,), now).to(device, non_blocking=True)}


def factor(schedule, ramp, progress):
    """Return what the weight of the labels is multiplied by.

    Args:
        schedule: "constant"; "warmup", growing from 0 to 1 in the first `ramp` of the run; "decay", falling to 0 in
            its last `ramp`.
        progress: share of the run that is done, 0 to 1.
    """
    if schedule == "warmup":
        return min(progress / ramp, 1.0)
    if schedule == "decay":
        return min((1 - progress) / ramp, 1.0)
    return 1.0
