"""What goes wrong quietly: collapsed depth, dead or wild motion, a mask that takes everything, a starving device.

Rules are functions of plain numbers; `Alarms` says each at most once until it has been quiet again, in the log and in
TensorBoard. Rules about what training should have reached wait for `SETTLE_STEPS`.
"""

import logging

import torch

from datasets.splits import published_names
from losses import supervision
from training.schedule import late_restart

log = logging.getLogger(__name__)

SETTLE_STEPS = 300  # before, a network from random weights may look constant and its motion tiny without harm
FLAT_DISPARITY = 1e-3  # relative standard deviation over an image
SMALL_MOTION, LARGE_MOTION = 1e-6, 10.0  # mean length of the predicted translations
MASKED = 0.98  # share of pixels that a still camera explains better
NO_AGREEMENT = 0.15  # correlation of pseudo-labels with the prediction; of good ones it is 0.8 and more
STARVING = 0.5  # share of the time spent waiting for data


def collapsed(spread):
    """Judge the disparity's relative standard deviation."""
    if not spread >= FLAT_DISPARITY:  # what is no number counts as bad, here and below
        return (f"disparity has collapsed to a constant (relative deviation {spread:.1e}): "
                "lower the learning rate or start from pre-trained weights")  # fmt: skip


def motion(length):
    """Judge the mean length of the predicted translations."""
    if length < SMALL_MOTION:
        return (f"predicted motion vanishes (mean translation {length:.1e}): the frames may not move, "
                "or the pose learning rate is too high")  # fmt: skip
    if not length <= LARGE_MOTION:
        return f"predicted motion explodes (mean translation {length:.1e}): lower the pose learning rate"


def masked(share):
    """Judge the share of pixels that auto-masking takes."""
    if not share <= MASKED:
        return f"auto-masking takes {share:.0%} of the pixels: nearly nothing is left to learn from"


def agreement(correlation):
    """Judge the correlation of pseudo-labels with the network's own depth."""
    if abs(correlation) < NO_AGREEMENT:
        return (f"the pseudo-labels have nothing in common with the predicted depth (correlation {correlation:.2f}): "
                "are they of these images?")  # fmt: skip
    if correlation < 0:
        return (f"the pseudo-labels are far where the prediction is near (correlation {correlation:.2f}): scale and "
                "metric labels are depth, affine labels are disparity (--pseudo_kind)")  # fmt: skip


def starving(share):
    """Judge the share of the time in which the device waited for data."""
    if share > STARVING:
        return f"the device waits for data {share:.0%} of the time: add --num_workers, or --cache"


STEP_RULES = {"spread": collapsed, "motion": motion, "masked": masked, "agreement": agreement}


def startup_notices(opt):
    """Yield (name, message) of what the options alone already tell."""
    for name, cycle in (("depth", opt.lr[2]), ("pose", opt.lr[5])):
        epoch = late_restart(opt.num_epochs, cycle)
        if epoch is not None:
            yield ("late_restart", f"the {name} learning rate restarts in epoch {epoch} of {opt.num_epochs}: the last "
                   f"weights will not have settled; a cycle of {opt.num_epochs + 1} fits")  # fmt: skip
    if opt.pseudo_depth and opt.pseudo_kind == "affine" and opt.pseudo_schedule != "warmup":
        yield ("affine_labels", "affine labels leave the shift of disparity open and can fix a wrong one from the "
               "first step on: add --pseudo_schedule warmup, or make labels of depth")  # fmt: skip
    if not opt.mypretrain and not opt.load_weights_folder:
        cost = "about 0.015 higher abs_rel on KITTI" if opt.split in published_names() else "a less accurate network"
        yield "no_pretrained_weights", f"no pre-trained encoder (--mypretrain): expect {cost}"


def watch(inputs, outputs, objective):
    """Return the numbers that the alarms judge, one for each of `STEP_RULES`, as far as the run has them."""
    disp = outputs["disp", 0].detach().float()
    values = {"spread": (disp.std((1, 2, 3)) / disp.mean((1, 2, 3))).mean().item()}
    motions = [outputs["translation", 0, frame].detach().norm(dim=-1) for frame in objective.sources if frame != "s"]
    if motions:
        values["motion"] = torch.stack(motions).mean().item()
    if "identity_selection/0" in outputs:
        values["masked"] = 1 - outputs["identity_selection/0"].mean().item()
    if "pseudo_label" in inputs and inputs["pseudo_confidence"].any():
        values["agreement"] = supervision.agreement(inputs, outputs, objective).item()
    return values


class Alarms:
    """Raises alarms into the log and, through `write(name, message, step)`, into TensorBoard."""

    def __init__(self, write):
        self.write, self.active = write, set()

    def check(self, step, values):
        """Judge the numbers that `watch` returned of a step."""
        for name, rule in STEP_RULES.items():
            if name in values and step >= SETTLE_STEPS:
                self._settle(name, rule(values[name]), step)

    def check_loading(self, step, share):
        """Judge the share of waiting time since the last look."""
        self._settle("starving", starving(share), step)

    def announce(self, name, message, step=0):
        """Say something outright."""
        log.warning("alarm: %s", message)
        self.write(name, message, step)

    def _settle(self, name, message, step):
        if message and name not in self.active:
            self.announce(name, message, step)
        (self.active.add if message else self.active.discard)(name)
