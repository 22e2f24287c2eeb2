"""What turns labelled batches into weights: erasing, mixing, loss, gradient, optimiser, schedules, moving average."""

import contextlib
import math

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3

from resumed_state import load_optimiser, load_scaler, load_weights
from system.errors import UserError
from training.run.precision import Precision

OVERFLOWS = 20  # fp16 steps in a row whose gradients may overflow while the scaler looks for its scale


class NotFinite(ArithmeticError):
    """A loss or gradient is not finite; the weights are as before the step. Arguments: what, its value."""


def mixes(opt):
    """Whether the options ask for mixup or CutMix."""
    return opt.mixup > 0 or opt.cutmix > 0 or opt.cutmix_minmax is not None


def learning_rate(step, steps, warmup, start, highest, lowest):
    """Return the rate of a step: from `start` to `highest`, reached at the last of `warmup` steps, then a cosine.

    Args:
        step, steps: the optimiser step, from 0, and how many there are.
        warmup: steps of linear warm-up.
        start, highest, lowest: rates at the beginning, the top, and (never quite reached) the end.
    """
    if step < warmup:
        return start + (highest - start) * step / max(warmup - 1, 1)
    return cosine(highest, lowest, (step - warmup) / (steps - warmup))


def cosine(start, end, share):
    """Return the value on half a cosine from `start` to `end` after a share of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Learner:
    """Owns a classifier's optimiser and everything that moves with it.

    Args:
        opt: the namespace of `pretraining_options.parse`.
        network: the classifier, on its device.
        device: torch.device.
        processes: `Processes`.
        steps_per_epoch: optimiser steps.

    Attributes:
        step: optimiser steps taken.
        ema: timm's moving average of the network, or None.

    Raises:
        UserError: timm cannot make the optimiser, or the warm-up leaves nothing of the run.
    """

    def __init__(self, opt, network, device, processes, steps_per_epoch):
        self.opt, self.network, self.device, self.processes = opt, network, device, processes
        self.step, self.overflows = 0, 0
        self.steps = steps_per_epoch * opt.epochs
        self.precision = Precision(opt.amp, device)
        self.optimiser = self._make_optimiser()
        self.warmup = opt.warmup_steps if opt.warmup_steps > 0 else opt.warmup_epochs * steps_per_epoch
        if self.warmup >= self.steps:
            raise UserError("the warm-up takes the whole run", f"{self.warmup} of {self.steps} steps", "shorten it")
        self.ema = None
        if opt.model_ema:
            self.ema = ModelEmaV3(network, opt.model_ema_decay, device="cpu" if opt.model_ema_force_cpu else None)
        self.mixup = self._make_mixup() if mixes(opt) else None
        if self.mixup is not None:
            self.loss = SoftTargetCrossEntropy()
        else:
            self.loss = LabelSmoothingCrossEntropy(opt.smoothing) if opt.smoothing else torch.nn.CrossEntropyLoss()
        splits = 2 if opt.resplit else 0
        self.erase = RandomErasing(
            opt.reprob, mode=opt.remode, max_count=opt.recount, num_splits=splits, device=device.type
        )
        self.wrapped = processes.parallel(network, device)

    def _make_optimiser(self):
        opt = self.opt
        betas = {"betas": tuple(opt.opt_betas)} if opt.opt_betas else {}
        try:
            return create_optimizer_v2(
                self.network, opt.opt, opt.lr, opt.weight_decay, opt.momentum, eps=opt.opt_eps, **betas
            )
        except (ValueError, AssertionError, TypeError, RuntimeError, LookupError, ImportError) as error:
            raise UserError(
                "timm cannot make this optimiser", f"--opt {opt.opt}: {error}", "use adamw or sgd"
            ) from error

    def _make_mixup(self):
        opt = self.opt
        return Mixup(
            opt.mixup,
            opt.cutmix,
            opt.cutmix_minmax,
            opt.mixup_prob,
            opt.mixup_switch_prob,
            opt.mixup_mode,
            label_smoothing=opt.smoothing,
            num_classes=opt.nb_classes,
        )

    @property
    def rate(self):
        """The learning rate of the last step."""
        return self.optimiser.param_groups[0]["lr"]

    def prepare(self, batch):
        """Return (images, targets) on the device, erased and mixed as the options say."""
        image = batch["image"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        if self.opt.reprob:
            image = self.erase(image)
        if self.mixup is not None:
            if len(image) % 2:  # a broken image was left out: another one stands in, for mixup takes pairs
                image, target = torch.cat((image, image[:1])), torch.cat((target, target[:1]))
            image, target = self.mixup(image, target)
        return image, target

    def learn(self, batches):
        """Take one optimiser step on batches, as if they were one; return the mean loss over their images.

        Raises:
            NotFinite: loss or gradient; the weights are as they were.
        """
        self._set_learning_rate()
        self._set_weight_decay()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._accumulate([self.prepare(batch) for batch in batches])
        if not math.isfinite(loss):
            raise NotFinite("loss", loss)
        self.precision.scaler.unscale_(self.optimiser)
        largest = math.inf if self.opt.clip_grad is None else self.opt.clip_grad
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), largest).item()
        self.overflows = 0 if math.isfinite(norm) else self.overflows + 1
        if self.overflows and (not self.precision.scaler.is_enabled() or self.overflows > OVERFLOWS):
            raise NotFinite("gradient", norm)
        self.precision.scaler.step(self.optimiser)
        self.precision.scaler.update()
        if self.ema is not None:
            self.ema.update(self.network)
        self.step += 1
        return loss

    def _accumulate(self, batches):
        """Add up the gradients of (images, targets) pairs, each weighing as many images as it has."""
        total, images = 0.0, sum(len(image) for image, _ in batches)
        for number, (image, target) in enumerate(batches):
            last = number == len(batches) - 1
            with contextlib.nullcontext() if last or self.processes.count == 1 else self.wrapped.no_sync():
                with self.precision.autocast():
                    logits = self.wrapped(image)
                loss = self.loss(logits.float(), target) * (len(image) / images)
                self.precision.scaler.scale(loss).backward()
            total += loss.item()
        return total

    def _set_learning_rate(self):
        opt = self.opt
        rate = learning_rate(self.step, self.steps, self.warmup, opt.warmup_start_lr, opt.lr, opt.min_lr)
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _set_weight_decay(self):
        start, end = self.opt.weight_decay, self.opt.weight_decay_end
        if end is not None:
            value = cosine(start, end, self.step / self.steps)
            for group in self.optimiser.param_groups:
                if group.setdefault("decays", group["weight_decay"] > 0):
                    group["weight_decay"] = value

    def state_dict(self):
        """Return everything that the next step depends on, as tensors and plain values."""
        return {
            "step": self.step,
            "overflows": self.overflows,
            "model": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
        } | ({"model_ema": self.ema.module.state_dict()} if self.ema is not None else {})

    def load_state_dict(self, state, path="the state"):
        """Go on from what `state_dict` returned, read from the file `path`. Raises UserError where it does not fit."""
        load_weights(self.network, state["model"], path)
        load_optimiser(self.optimiser, state["optimiser"], path)
        load_scaler(self.precision.scaler, state["scaler"], path)
        if self.ema is not None:
            load_weights(self.ema.module, state.get("model_ema"), path)
        self.step, self.overflows = state["step"], state["overflows"]
