"""ImageNet pre-training: epochs of learning, each evaluated, with checkpoints and exact states left behind."""

import contextlib
import json
import logging
import os
import time

import timm
import torch

from checkpointing.files import write_state
from classifier import is_checkpoint, load_classifier, load_starting_weights
from evaluation.cost import count_multiply_adds, count_parameters
from learner import Learner, NotFinite
from pretraining_data import PretrainingData
from readers import digest
from resumed_state import check_content
from scoring import score
from system import distributed as process_group
from system.errors import UserError
from system.files import write_text
from system.progress import Progress
from training.run import failures, session, states
from training.run.folder import RunFolder
from training.run.identity import check_identity, identity
from training.run.interruption import Interruption
from training.run.loading import BadSamples, grouped
from training.run.log import RunLog
from training.run.not_finite import reporting_not_finite, stop_unless_finite
from training.run.precision import Precision, choose_device, device_name, set_up
from training.run.randomness import random_states, seed_everything
from training.state_content import check_progress, restore_random
from wandb_log import WandbLog

log = logging.getLogger(__name__)

USI_CROP_PCT = 0.95
LOG_STEPS = 50  # steps between TensorBoard entries

# What may differ between a run and the one that goes on from its state: where things lie and how fast they are read.
FREE = (
    "data_path", "eval_data_path", "data_set", "num_workers", "pin_mem", "on_bad_sample", "output_dir", "log_dir",
    "resume", "auto_resume", "save_ckpt", "save_ckpt_freq", "save_ckpt_num", "save_steps", "eval", "dist_eval",
    "disable_eval", "usi_eval", "model_ema_eval", "model_ema_force_cpu", "enable_wandb", "project", "wandb_ckpt",
    "device", "use_amp", "start_epoch", "finetune", "find_unused_params",
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
        opt.amp = opt.amp or ("fp16" if opt.use_amp and self.device.type == "cuda" else "off")
        if opt.usi_eval and opt.crop_pct is None:
            opt.crop_pct = USI_CROP_PCT
        set_up(self.device)
        seed_everything(opt.seed)
        self.network = timm.create_model(
            opt.model,
            num_classes=opt.nb_classes,
            drop_path_rate=opt.drop_path,
            drop_rate=opt.classifier_dropout,
            layer_scale_init_value=opt.layer_scale_init_value,
        ).to(self.device)
        self.autocast = Precision(opt.amp, self.device).autocast
        self.run = RunFolder(*os.path.split(os.path.abspath(os.path.expanduser(opt.output_dir))), "--output_dir")
        self.bad_samples = BadSamples(opt.on_bad_sample, "check --data_path, or copy the images again")
        self.data = PretrainingData(opt, self.processes, self.device)

    def evaluate(self):
        """Score --resume, or the output folder's best checkpoint, and print the result.

        Raises:
            UserError: no checkpoint or images, or they do not fit.
        """
        best = "checkpoint-best-ema.pth" if self.opt.model_ema_eval else "checkpoint-best.pth"
        named = self.opt.resume not in (None, "newest", "auto")
        path = self.opt.resume if named else os.path.join(self.run.path, best)
        if self.opt.usi_eval:
            self.data.names = load_classifier(self.network, path, "state_dict", "--usi_eval")
        else:
            averaged = self.opt.model_ema_eval and named  # the best one's file holds nothing else
            self.data.names = load_classifier(self.network, path, "model_ema" if averaged else "model")
        self._one_after_the_other(self.data.open_validation)
        self._tell_cost()
        result = self._score(self.network)
        if self.processes.is_first:
            print(f"{path}: {_sentence(result)}")

    def train(self):
        """Run all epochs that are left.

        Raises:
            UserError: images, folders or states are not as they have to be, or a number was not finite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        self._one_after_the_other(self.data.open_both)
        if self.opt.finetune:
            self._one_after_the_other(self._start_from_weights)
        self.learner = Learner(self.opt, self.network, self.device, self.processes, self.data.steps_per_epoch)
        seed_everything(self.opt.seed + 1 + self.processes.rank)
        self.epoch, self.step_in_epoch = self.opt.start_epoch, 0
        self.learner.step = self.epoch * self.data.steps_per_epoch
        self.best, self.history = {"top1": -1.0, "ema_top1": -1.0}, []
        with failures.holding_folder(self.run, self.processes, self._where), Interruption() as self.interruption:
            self._begin()
            while self.epoch < self.opt.epochs:
                self._run_epoch()
            self.log.close()
            if self.wandb is not None and self.opt.wandb_ckpt:
                self.wandb.upload(self.run.path)
        if self.processes.is_first:
            log.info("finished after %d steps: checkpoints in %s", self.learner.step, self.run.path)

    def _start_from_weights(self):
        with reporting_not_finite(self.run, self.processes):
            loaded = load_starting_weights(self.network, self.opt.finetune, self.data.names)
        log.info("starts from %s: %s", self.opt.finetune, loaded)

    def _where(self):
        return f"rank {self.processes.rank} at step {self.learner.step}"

    def _one_after_the_other(self, action):
        """Let the first process act, then the others: it alone speaks of what is wrong, and writes what timm caches."""
        first = self.processes.is_first
        try:
            if not first:
                self.processes.wait()
            action()
            if first:
                self.processes.wait()
        except RuntimeError as error:
            problem = failures.outside_cause(error, f"rank {self.processes.rank}", self.processes.count)
            if problem is None:
                raise
            raise problem from error

    # --- epochs ----------------------------------------------------------------------------------------------------

    def _begin(self):
        opt, first = self.opt, self.processes.is_first
        self.states = states.StateFolder(self.run.states, opt.save_ckpt_num)
        if opt.resume not in (None, "auto") or (opt.auto_resume or opt.resume) and self.states.paths():
            self._resume()
        elif first:
            aside = self.run.set_aside()
            if aside:
                log.warning("an earlier run was found in %s: it is now in %s", self.run.path, aside)
        self.processes.wait()
        self.log = RunLog((opt.log_dir or self.run.path) if first else None, self.learner.step)
        self.wandb = WandbLog(opt, self.run.path) if first and opt.enable_wandb else None
        if not first:
            return
        device = device_name(self.device)
        held = {name: (name, len(part), digest(part.reader)) for name, part in self.data.parts().items()}
        self.run.record(opt, held, device, self.processes.count)
        self._tell_cost()
        counts = ", ".join(f"{len(part)} {name} images" for name, part in self.data.parts().items())
        where = f"{self.processes.count} x {device}"
        log.info("%d classes, %s; %d steps an epoch on %s", opt.nb_classes, counts, self.data.steps_per_epoch, where)

    def _tell_cost(self):
        if self.processes.is_first:
            size, network = self.opt.input_size, self.network.eval()
            image = torch.zeros(1, 3, size, size, device=self.device)
            cost = count_parameters(network) / 1e6, count_multiply_adds(lambda: network(image)) / 1e9
            log.info("%s: %.3f M parameters, %.2f G multiply-adds at %dx%d", self.opt.model, *cost, size, size)

    def _run_epoch(self):
        opt = self.opt
        self.network.train()
        self.data.order.begin(self.epoch, self.step_in_epoch * opt.update_freq)
        began, losses = time.monotonic(), []
        title, left = f"epoch {self.epoch} of {opt.epochs}", self.data.steps_per_epoch - self.step_in_epoch
        with Progress(title, left, quiet=not self.processes.is_first) as progress:
            for batches, waited in grouped(self.data.loader, opt.update_freq, self.bad_samples):
                losses.append(self._learn(batches, waited))
                progress.advance()
                if opt.save_ckpt and opt.save_steps and self.learner.step % opt.save_steps == 0:
                    self._save_state()
                self._stop_if_asked()
                if self.step_in_epoch == self.data.steps_per_epoch:
                    break
        self._end_epoch(sum(losses) / max(len(losses), 1), time.monotonic() - began)

    def _learn(self, batches, waited):
        try:
            loss = self.learner.learn(batches)
        except NotFinite as problem:
            report = {"epoch": self.epoch, "step": self.learner.step, "learning_rate": self.learner.rate}
            stop_unless_finite(*problem.args, self.run.not_finite, lambda: report)
        self.step_in_epoch += 1
        self.log.clock.count(sum(len(batch["target"]) for batch in batches) * self.processes.count, waited)
        if self.learner.step % LOG_STEPS == 0 or self.learner.step == 1:
            speed, waiting, _ = self.log.clock.look()
            values = {"loss": loss, "learning_rate": self.learner.rate, "images_per_second": speed, "waiting": waiting}
            self.log.scalars("train", self.learner.step, values)
        return loss

    def _end_epoch(self, loss, seconds):
        finished, learner = self.epoch, self.learner
        record = {"epoch": finished, "step": learner.step, "train_loss": loss, "learning_rate": learner.rate,
                  "seconds": round(seconds, 1)}  # fmt: skip
        if self.data.val_set is not None:
            record |= self._score(self.network)
            if learner.ema is not None and self.opt.model_ema_eval:
                record |= {f"ema_{name}": value for name, value in self._score(learner.ema.module).items()}
        self.epoch, self.step_in_epoch = finished + 1, 0
        self.history.append(record)
        better = [name for name in self.best if record.get(name, -1.0) > self.best[name]]
        self.best |= {name: record[name] for name in better}
        if self.processes.is_first:
            self._tell_epoch(record)
            if self.opt.save_ckpt:
                self._write_checkpoints(record, better)
        if self.opt.save_ckpt and self._is_due():
            self._save_state()
        self._stop_if_asked()

    def _tell_epoch(self, record):
        lines = "".join(json.dumps(each) + "\n" for each in self.history)
        write_text(os.path.join(self.run.path, "epochs.jsonl"), lines)
        shown = {name: value for name, value in record.items() if name.removeprefix("ema_") in ("loss", "top1", "top5")}
        self.log.scalars("val", self.learner.step, shown)
        if self.wandb is not None:
            self.wandb.write(record, self.learner.step)
        scored = f"; {_sentence(record)}" if "top1" in record else ""
        log.info("epoch %d: training loss %.4f%s", record["epoch"], record["train_loss"], scored)

    def _score(self, network):
        batches = map(self.bad_samples.without_bad, self.data.val_loader)
        progress = Progress("evaluation", len(self.data.val_loader), "batches", quiet=not self.processes.is_first)
        return score(network, batches, self.device, self.autocast, self.processes, progress)

    # --- what stays on disk ----------------------------------------------------------------------------------------

    def _is_due(self):
        return self.epoch % self.opt.save_ckpt_freq == 0 or self.epoch == self.opt.epochs

    def _write_checkpoints(self, record, better):
        plain = {"epoch": record["epoch"], "classes": self.data.names, "name": self.opt.model}
        weights = {"model": self.network.state_dict()}
        ema = self.learner.ema.module.state_dict() if self.learner.ema is not None else None
        if self._is_due():
            write_state(self._checkpoint(record["epoch"]), weights | ({"model_ema": ema} if ema else {}) | plain)
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
        facts = {"processes": self.processes.count, "training images": digest(self.data.train_set.reader)}
        return identity(self.opt, FREE, **facts)

    def _save_state(self):
        random_of_all = self.processes.gather(random_states(self.device))
        if self.processes.is_first:
            self.states.save(self.learner.step, self.learner.state_dict() | {
                "identity": self._identity(),
                "progress": [self.epoch, self.step_in_epoch],
                "best": self.best,
                "history": self.history,
                "classes": self.data.names,
                "bad_samples": self.bad_samples.count,
                "random": random_of_all,
            })  # fmt: skip

    def _resume(self):
        named = self.opt.resume not in (None, "newest", "auto")
        path, state = (self.opt.resume, self._read_state()) if named else self.states.newest()
        check_content(state, self.best, path)
        check_identity(self._identity(), state["identity"], way_out="start a new run with --auto_resume false")
        progress = [*state["progress"], state["step"]]
        check_progress(progress, self.data.steps_per_epoch, self.opt.epochs, path, "--epochs")
        with reporting_not_finite(self.run, self.processes):
            self.learner.load_state_dict(state, path)
        self.epoch, self.step_in_epoch = state["progress"]
        self.best, self.history = state["best"], state["history"]
        self.bad_samples.count = state["bad_samples"]
        restore_random(state["random"], self.processes.rank, self.device, path)
        log.info("resumed from %s: epoch %d, step %d", path, self.epoch, self.learner.step)

    def _read_state(self):
        path = self.opt.resume
        if is_checkpoint(path):
            fix = f"go on from a state_*.pt of the output folder, or start from these weights: --finetune {path}"
            raise UserError("not a resumable state but weights alone", path, fix)
        return states.read(path)

    def _stop_if_asked(self):
        if self.interruption.is_asked_of_any(self.processes):
            self._save_state()
            self.log.close()
            self.interruption.stop(self.processes, self.run.states)


def _sentence(result):
    text = f"top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %, loss {result['loss']:.4f}"
    text += f" on {result['images']} images"
    return text + (f"; moving average top-1 {result['ema_top1']:.2f} %" if "ema_top1" in result else "")


def run(opt):
    """Pre-train or evaluate as the options of main.py say; return the exit code."""
    return session.run(lambda: Pretrainer(opt), Pretrainer.evaluate if opt.eval else Pretrainer.train)
