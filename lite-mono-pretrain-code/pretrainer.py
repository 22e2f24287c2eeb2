"""ImageNet pre-training: the classifier learns, is evaluated after each epoch, and leaves checkpoints and exact states."""

import contextlib
import json
import logging
import math
import os
import time

import timm
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

import labelled_images as images
from checkpoints import write_state
from classifier import load_classifier
from errors import UserError
from evaluation.cost import count_multiply_adds, count_parameters
from files import write_text
from progress import Progress
from scoring import score
from training import guard
from training import processes as process_group
from training import state as states
from training.interruption import Interrupted, Interruption
from training.loading import BadSamples, make_loader
from training.precision import Precision, choose_device, random_states, restore_random_states, seed_everything, set_up
from training.run_folder import RunFolder
from training.run_log import RunLog

log = logging.getLogger(__name__)

LOG_STEPS = 50  # steps between TensorBoard entries
OVERFLOWS = 20  # fp16 steps in a row whose gradients may overflow while the scaler looks for its scale

# What may differ between a run and the one that goes on from its state: where things lie and how fast they are read.
FREE = (
    "data_path", "eval_data_path", "data_set", "num_workers", "pin_mem", "on_bad_sample", "output_dir", "log_dir", "resume",
    "auto_resume", "save_ckpt", "save_ckpt_freq", "save_ckpt_num", "save_steps", "eval", "dist_eval", "disable_eval",
    "model_ema_eval", "enable_wandb", "project", "device", "model_ema_force_cpu", "use_amp", "start_epoch",
)  # fmt: skip


class Pretrainer:
    """A pre-training run; `train` is the whole of it, `evaluate` scores one checkpoint.

    Args:
        opt: the namespace of `pretraining_options.parse`.
    """

    def __init__(self, opt):
        self.opt = opt
        on_cpu = opt.device == "cpu"
        self.processes = process_group.start(choose_device(on_cpu).type == "cuda")
        self.device = choose_device(on_cpu, self.processes.local_rank)
        if opt.use_amp and opt.amp == "off":
            opt.amp = "fp16" if self.device.type == "cuda" else "bf16"
        set_up(self.device)
        seed_everything(opt.seed)
        self.network = timm.create_model(
            opt.model,
            num_classes=opt.nb_classes,
            drop_path_rate=opt.drop_path,
            drop_rate=opt.classifier_dropout,
            layer_scale_init_value=opt.layer_scale_init_value,
        ).to(self.device)
        self.precision = Precision(opt.amp, self.device)
        self.run = RunFolder(*os.path.split(os.path.abspath(os.path.expanduser(opt.output_dir))))
        self.bad_samples = BadSamples(opt.on_bad_sample)
        self.names = None

    # --- evaluation alone ------------------------------------------------------------------------------------------

    def evaluate(self):
        """Score --resume, or the output folder's best checkpoint, and print the result.

        Raises:
            UserError: no checkpoint or images, or they do not fit.
        """
        path = self.opt.resume or os.path.join(self.run.path, "checkpoint-best.pth")
        self.names = load_classifier(self.network, path, ema=self.opt.model_ema_eval)
        self._open_validation()
        self._tell_cost()
        result = self._score(self.network)
        if self.processes.is_first:
            print(f"{path}: {_sentence(result)}")

    # --- set-up ----------------------------------------------------------------------------------------------------

    def _open_validation(self):
        opt = self.opt
        path = images.find_part(opt, "val")
        reader = images.open_reader(path)
        if self.names is None:
            self.names = images.class_names(reader)
            images.check_classes(self.names, opt.nb_classes, path)
        images.check_same_classes(self.names, reader, path)
        transform = images.make_transform(opt, opt.input_size, is_training=False)
        self.val_set = images.LabelledImages(reader, [transform], self.names)
        parts = self.processes.count if opt.dist_eval else 1
        share = range(self.processes.rank, len(self.val_set), parts) if self.processes.rank < parts else range(0)
        self.val_loader = make_loader(torch.utils.data.Subset(self.val_set, share), min(opt.num_workers, 4), self.device,
                                      batch_size=opt.batch_size)  # fmt: skip

    def _open_data(self):
        opt = self.opt
        path = images.find_part(opt, "train")
        reader = images.open_reader(path)
        self.names = images.class_names(reader)
        images.check_classes(self.names, opt.nb_classes, path)
        self.val_set = None
        if not opt.disable_eval:
            self._open_validation()
        sizes = images.crop_sizes(opt)
        transforms = [images.make_transform(opt, size, is_training=True) for size in sizes]
        self.train_set = images.LabelledImages(reader, transforms, self.names, opt.seed)
        counts = images.batch_sizes(sizes, opt.batch_size, opt.input_size, even=self._mixes())
        self.order = images.BatchOrder(len(self.train_set), counts, opt.seed, self.processes)
        self.steps_per_epoch = len(self.order) // opt.update_freq
        if not self.steps_per_epoch:
            raise UserError("fewer training images than one step takes",
                            f"{len(self.train_set)} images, {opt.update_freq} x {opt.batch_size} a step and process",
                            "lower --batch_size or --update_freq")  # fmt: skip
        self.loader = make_loader(self.train_set, opt.num_workers, self.device, batch_sampler=self.order)

    def _mixes(self):
        return self.opt.mixup > 0 or self.opt.cutmix > 0 or self.opt.cutmix_minmax is not None

    def _build(self):
        """Make what turns gradients into weights, and wrap the network for several processes."""
        opt = self.opt
        betas = {"betas": tuple(opt.opt_betas)} if opt.opt_betas else {}
        try:
            self.optimiser = create_optimizer_v2(self.network, opt.opt, opt.lr, opt.weight_decay, opt.momentum,
                                                 eps=opt.opt_eps, **betas)  # fmt: skip
        except (ValueError, AssertionError, TypeError) as error:
            raise UserError(
                "timm cannot make this optimiser", f"--opt {opt.opt}: {error}", "use adamw, sgd or lamb"
            ) from error
        steps = self.steps_per_epoch * opt.epochs
        warmup = opt.warmup_steps if opt.warmup_steps > 0 else opt.warmup_epochs * self.steps_per_epoch
        if warmup >= steps:
            raise UserError("the warm-up takes the whole run", f"{warmup} of {steps} steps", "lower --warmup_steps")
        self.schedule = CosineLRScheduler(self.optimiser, steps - warmup, opt.min_lr, warmup_t=warmup, t_in_epochs=False,
                                          warmup_lr_init=opt.warmup_start_lr, warmup_prefix=True)  # fmt: skip
        self.ema = None
        if opt.model_ema:
            self.ema = ModelEmaV3(self.network, opt.model_ema_decay, device="cpu" if opt.model_ema_force_cpu else None)
        self.mixup, self.loss = None, torch.nn.CrossEntropyLoss()
        if self._mixes():
            self.mixup = Mixup(opt.mixup, opt.cutmix, opt.cutmix_minmax, opt.mixup_prob, opt.mixup_switch_prob,
                               opt.mixup_mode, label_smoothing=opt.smoothing, num_classes=opt.nb_classes)  # fmt: skip
            self.loss = SoftTargetCrossEntropy()
        elif opt.smoothing:
            self.loss = LabelSmoothingCrossEntropy(opt.smoothing)
        self.erase = RandomErasing(opt.reprob, mode=opt.remode, max_count=opt.recount, num_splits=2 * opt.resplit,
                                   device=self.device.type)  # fmt: skip
        self.wrapped = self.network
        if self.processes.count > 1:
            ids = [self.processes.local_rank] if self.device.type == "cuda" else None
            self.wrapped = torch.nn.parallel.DistributedDataParallel(
                self.network, device_ids=ids, broadcast_buffers=False
            )
        seed_everything(opt.seed + 1 + self.processes.rank)

    # --- one step --------------------------------------------------------------------------------------------------

    def prepare(self, batch):
        """Return (images, targets) on the device, erased and mixed as the options say."""
        image = batch["image"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        if self.opt.reprob:
            image = self.erase(image)
        if self.mixup is not None:
            even = len(image) // 2 * 2 or 2  # a batch that lost a broken image may have become odd
            image, target = image.repeat(2, 1, 1, 1)[:even], target.repeat(2)[:even]
            image, target = self.mixup(image, target)
        return image, target

    def optimise(self, batches):
        """Take one optimiser step on batches, as if they were one; return the mean loss over their images.

        Raises:
            UserError: loss or gradient is not finite; the weights are then as they were.
        """
        self.schedule.step_update(self.step)
        self._set_weight_decay()
        self.optimiser.zero_grad(set_to_none=True)
        batches = [self.prepare(batch) for batch in batches]
        total, images_in_step = 0.0, sum(len(image) for image, _ in batches)
        for number, (image, target) in enumerate(batches):
            last = number == len(batches) - 1
            with contextlib.nullcontext() if last or self.processes.count == 1 else self.wrapped.no_sync():
                with self.precision.autocast():
                    loss = self.loss(self.wrapped(image).float(), target) * (len(image) / images_in_step)
                self.precision.scaler.scale(loss).backward()
            total += loss.item()
        self._stop_unless_finite("loss", total)
        self.precision.scaler.unscale_(self.optimiser)
        largest = math.inf if self.opt.clip_grad is None else self.opt.clip_grad
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), largest).item()
        self.overflows = 0 if math.isfinite(norm) else self.overflows + 1
        if not self.precision.scaler.is_enabled() or self.overflows > OVERFLOWS:
            self._stop_unless_finite("gradient", norm)
        self.precision.scaler.step(self.optimiser)
        self.precision.scaler.update()
        if self.ema is not None:
            self.ema.update(self.network)
        self.step += 1
        return total

    def _set_weight_decay(self):
        end = self.opt.weight_decay_end
        if end is None:
            return
        done = self.step / (self.steps_per_epoch * self.opt.epochs)
        value = end + (self.opt.weight_decay - end) * (1 + math.cos(math.pi * done)) / 2
        for group in self.optimiser.param_groups:
            if group["weight_decay"] or group.get("decays"):
                group["weight_decay"], group["decays"] = value, True

    def _stop_unless_finite(self, what, value):
        path = os.path.join(self.run.path, "not_finite.json")
        guard.stop_unless_finite(
            what, value, path, lambda: {"epoch": self.epoch, "step": self.step, "learning_rate": self.rate}
        )

    @property
    def rate(self):
        return self.optimiser.param_groups[0]["lr"]

    # --- the run ---------------------------------------------------------------------------------------------------

    def train(self):
        """Run all epochs that are left.

        Raises:
            UserError: images, folders or states are not as they have to be, or a number was not finite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        self._one_after_the_other(self._open_data)
        self._build()
        where = lambda: f"rank {self.processes.rank} at step {self.step}"  # noqa: E731
        self.epoch, self.step_in_epoch, self.step, self.overflows = self.opt.start_epoch, 0, 0, 0
        self.step = self.epoch * self.steps_per_epoch
        self.best, self.history = {"top1": -1.0, "ema_top1": -1.0}, []
        with guard.own_folder(self.run, self.processes, where), Interruption() as self.interruption:
            self._begin()
            while self.epoch < self.opt.epochs:
                self._run_epoch()
            self.log.close()
        if self.processes.is_first:
            log.info("finished after %d steps: checkpoints in %s", self.step, self.run.path)

    def _one_after_the_other(self, action):
        """Let the first process act, then the others: it alone speaks of what is wrong, and writes what timm caches."""
        if not self.processes.is_first:
            self.processes.wait()
        action()
        if self.processes.is_first:
            self.processes.wait()

    def _begin(self):
        opt, first = self.opt, self.processes.is_first
        self.states = states.StateFolder(self.run.states, opt.save_ckpt_num)
        if opt.resume or (opt.auto_resume and self.states.paths()):
            self._resume()
        elif first:
            aside = self.run.set_aside()
            if aside:
                log.warning("an earlier run stood in %s: it is now in %s", self.run.path, aside)
        self.processes.wait()
        self.log = RunLog((opt.log_dir or self.run.path) if first else None, self.step)
        self.wandb = self._open_wandb() if first and opt.enable_wandb else None
        if not first:
            return
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self.run.record(opt, {name: (name, len(part), images.digest(part.reader)) for name, part in self._parts()}, device,
                        self.processes.count)  # fmt: skip
        self._tell_cost()
        log.info("%d classes, %s; %d steps an epoch on %d x %s", opt.nb_classes,
                 ", ".join(f"{len(part)} {name} images" for name, part in self._parts()), self.steps_per_epoch,
                 self.processes.count, device)  # fmt: skip

    def _parts(self):
        return [("train", self.train_set)] + ([("val", self.val_set)] if self.val_set is not None else [])

    def _open_wandb(self):
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "the package wandb is missing", "--enable_wandb", "pip install wandb, or drop the flag"
            ) from error
        return wandb.init(project=self.opt.project, config=vars(self.opt), dir=self.run.path)

    def _tell_cost(self):
        if not self.processes.is_first:
            return
        size = self.opt.input_size
        network = self.network.eval()
        image = torch.zeros(1, 3, size, size, device=self.device)
        log.info("%s: %.3f M parameters, %.2f G multiply-adds at %dx%d", self.opt.model, count_parameters(network) / 1e6,
                 count_multiply_adds(lambda: network(image)) / 1e9, size, size)  # fmt: skip

    def _run_epoch(self):
        opt = self.opt
        self.network.train()
        self.order.begin(self.epoch, self.step_in_epoch * opt.update_freq)
        began, losses = time.monotonic(), []
        title = f"epoch {self.epoch} of {opt.epochs}"
        with Progress(title, self.steps_per_epoch - self.step_in_epoch, quiet=not self.processes.is_first) as progress:
            for batches, waited in guard.grouped(self.loader, opt.update_freq, self.bad_samples):
                losses.append(self.optimise(batches))
                self.step_in_epoch += 1
                self._report(losses[-1], sum(len(batch["target"]) for batch in batches), waited)
                progress.advance()
                if opt.save_ckpt and opt.save_steps and self.step % opt.save_steps == 0:
                    self._save_state()
                self._stop_if_asked()
                if self.step_in_epoch == self.steps_per_epoch:
                    break
        self._end_epoch(sum(losses) / max(len(losses), 1), time.monotonic() - began)

    def _report(self, loss, count, waited):
        self.log.clock.count(count * self.processes.count, waited)
        if self.step % LOG_STEPS == 0 or self.step == 1:
            speed, waiting, _ = self.log.clock.look()
            self.log.scalars("train", self.step, {"loss": loss, "learning_rate": self.rate, "images_per_second": speed,
                                                  "waiting_for_data": waiting})  # fmt: skip

    def _end_epoch(self, loss, seconds):
        finished, opt = self.epoch, self.opt
        record = {
            "epoch": finished,
            "step": self.step,
            "train_loss": loss,
            "learning_rate": self.rate,
            "seconds": round(seconds, 1),
        }
        if self.val_set is not None:
            record |= self._score(self.network)
            if self.ema is not None and opt.model_ema_eval:
                record |= {
                    f"ema_{name}": value for name, value in self._score(self.ema.module).items() if name != "images"
                }
        self.epoch, self.step_in_epoch = finished + 1, 0
        self.history.append(record)
        better = [name for name in self.best if record.get(name, -1.0) > self.best[name]]
        self.best |= {name: record[name] for name in better}
        if self.processes.is_first:
            self._write_epoch(record, better)
        if opt.save_ckpt and self._is_due():
            self._save_state()
        self._stop_if_asked()

    def _is_due(self):
        return self.epoch % self.opt.save_ckpt_freq == 0 or self.epoch == self.opt.epochs

    def _write_epoch(self, record, better):
        write_text(
            os.path.join(self.run.path, "epochs.jsonl"), "".join(json.dumps(each) + "\n" for each in self.history)
        )
        scores = {
            name: value
            for name, value in record.items()
            if name.endswith(("top1", "top5")) or name in ("loss", "ema_loss")
        }
        self.log.scalars("val", self.step, scores)
        if self.wandb is not None:
            self.wandb.log(record, step=self.step)
        log.info("epoch %d: training loss %.4f%s", record["epoch"], record["train_loss"],
                 f"; {_sentence(record)}" if "top1" in record else "")  # fmt: skip
        if self.opt.save_ckpt:
            self._write_checkpoints(record, better)

    # --- what stays on disk ----------------------------------------------------------------------------------------

    def _write_checkpoints(self, record, better):
        plain = {
            "epoch": record["epoch"],
            "classes": self.names,
            "name": self.opt.model,
            "input_size": self.opt.input_size,
        }
        weights = {"model": self.network.state_dict()}
        ema = self.ema.module.state_dict() if self.ema is not None else None
        if self._is_due():
            both = weights | ({"model_ema": ema} if ema is not None else {})
            write_state(self._checkpoint(record["epoch"]), both | plain)
            old = record["epoch"] - self.opt.save_ckpt_freq * self.opt.save_ckpt_num
            for epoch in range(max(old - self.opt.save_ckpt_freq, 0), old + 1):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._checkpoint(epoch))
        if "top1" in better:
            write_state(self._checkpoint("best"), weights | plain | {"top1": record["top1"]})
        if "ema_top1" in better:
            write_state(self._checkpoint("best-ema"), {"model": ema} | plain | {"top1": record["ema_top1"]})

    def _checkpoint(self, which):
        return os.path.join(self.run.path, f"checkpoint-{which}.pth")

    def _identity(self):
        """What has to be equal in the run that resumes, as plain values."""
        identity = {name: value for name, value in vars(self.opt).items() if name not in FREE}
        identity["processes"] = self.processes.count
        return identity | {"training images": images.digest(self.train_set.reader)}

    def _save_state(self):
        everyones_chance = self.processes.gather(random_states(self.device))
        if self.processes.is_first:
            self.states.save(self.step, {
                "identity": self._identity(),
                "progress": [self.epoch, self.step_in_epoch, self.step],
                "best": self.best,
                "history": self.history,
                "classes": self.names,
                "model": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.precision.scaler.state_dict(),
                "overflows": self.overflows,
                "bad_samples": self.bad_samples.count,
                "random": everyones_chance,
            } | ({"model_ema": self.ema.module.state_dict()} if self.ema is not None else {}))  # fmt: skip

    def _resume(self):
        path, state = self.states.newest() if not self.opt.resume else (self.opt.resume, states.read(self.opt.resume))
        if "training images" not in state.get("identity", {}):
            raise UserError("not a state of a pre-training run", path, "name a state_*.pt of the output folder")
        try:
            guard.check_identity(self._identity(), state["identity"])
        except UserError as problem:
            raise UserError(
                problem.what, f"{path}: {problem.which}", f"{problem.fix} (--auto_resume false)"
            ) from problem
        self.network.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["model_ema"])
        if state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step_in_epoch, self.step = state["progress"]
        self.best, self.history = state["best"], state["history"]
        self.overflows, self.bad_samples.count = state["overflows"], state["bad_samples"]
        restore_random_states(state["random"][self.processes.rank], self.device)
        log.info("resumed from %s: epoch %d, step %d", path, self.epoch, self.step)

    def _stop_if_asked(self):
        if self.processes.any(self.interruption.signum is not None):
            self._save_state()
            self.log.close()
            signum = next(each for each in self.processes.gather(self.interruption.signum) if each is not None)
            raise Interrupted(signum, self.run.states)

    def _score(self, network):
        first = self.processes.is_first
        batches = map(self.bad_samples.sift, self.val_loader)
        progress = Progress("evaluation", len(self.val_loader), "batches", quiet=not first)
        device = next(network.parameters()).device
        autocast = self.precision.autocast if device == self.device else contextlib.nullcontext
        return score(network, batches, device, autocast, self.processes, progress)


def _sentence(result):
    text = f"top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %, loss {result['loss']:.4f} on {result['images']} images"
    return text + (f"; moving average top-1 {result['ema_top1']:.2f} %" if "ema_top1" in result else "")
