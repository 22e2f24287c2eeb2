"""Self-supervised training: depth and motion networks learn from video by predicting each frame from its neighbours.

`Trainer(opt)` builds networks and optimisers; `process_batch` is the objective alone; `train` is the whole run.
"""

import contextlib
import functools
import hashlib
import logging
import os

import torch

from checkpoints import existing_folder, load_networks, load_pretrained_encoder, read_state, save_networks, write_state
from datasets import dataset_class
from datasets.splits import resolve_split
from errors import UserError
from files import replacing_folder, sweep, write_json
from losses import Objective, compute_losses
from training import guard
from training import processes as process_group
from training import state as states
from training.alarms import Alarms, startup_notices
from training.depth_and_motion import DEPTH_NETWORKS, POSE_NETWORKS, DepthAndMotion
from training.interruption import Interrupted, Interruption
from training.loading import BadSamples, EpochOrder, make_loader
from training.precision import Precision, choose_device, random_states, restore_random_states, seed_everything, set_up
from training.run_folder import RunFolder
from training.run_log import RunLog
from training.schedule import learning_rate
from training.validation import choose_metric, is_better, protocol_for, validate

log = logging.getLogger(__name__)

WATCH_STEPS = 50  # steps between looks at the alarms' numbers
OVERFLOWS = 20  # fp16 steps in a row whose gradients may overflow while the scaler looks for its scale

# What has to be the same for a resumed run to be the run that was interrupted.
IDENTITY = (
    "model", "dataset", "height", "width", "frame_ids", "use_stereo", "scales", "batch_size", "grad_accum", "seed", "lr",
    "weight_decay", "drop_path", "num_layers", "pose_model_type", "pose_model_input", "predictive_mask", "amp", "sync_bn",
    "v1_multiscale", "avg_reprojection", "disable_automasking", "no_ssim", "disparity_smoothness", "min_depth", "max_depth",
    "jitter_per_image",
)  # fmt: skip


class Trainer:
    """A training run.

    Args:
        opt: the namespace of `options.LiteMonoOptions().parse(...)`. Data and folders are first touched by `train`.

    Attributes:
        models: name -> network: encoder, depth, and as asked pose_encoder, pose, predictive_mask.

    Raises:
        UserError: weights that cannot be had or do not fit.
    """

    def __init__(self, opt):
        self.opt = opt
        wants_cuda = choose_device(opt.no_cuda).type == "cuda"
        self.processes = process_group.start(wants_cuda)
        self.device = choose_device(opt.no_cuda, self.processes.local_rank)
        set_up(self.device, opt.deterministic)
        seed_everything(opt.seed)
        self.network = DepthAndMotion(opt).to(self.device)
        self.models = dict(self.network.networks.items())
        self.precision = Precision(opt.amp, self.device)
        self.optimisers = self._make_optimisers()
        self._load_starting_weights()
        if opt.sync_bn and self.processes.count > 1:
            self.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
            self.models = dict(self.network.networks.items())
        self.objective = make_objective(opt, self.network)
        self.wrapped, self.compute_losses = self._wrap()
        seed_everything(opt.seed + 1 + self.processes.rank)

        self.epoch, self.step_in_epoch, self.step = 0, 0, 0
        self.best = {"metric": None, "value": None, "epoch": None}
        self.overflows = 0

    # --- set-up ----------------------------------------------------------------------------------------------------

    def _make_optimisers(self):
        """One AdamW for the depth networks and one for the pose networks, by the names of their files."""
        optimisers = {}
        for name, group in (("adam", DEPTH_NETWORKS), ("adam_pose", POSE_NETWORKS)):
            parameters = [p for key in group if key in self.models for p in self.models[key].parameters()]
            if parameters:
                optimisers[name] = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=self.opt.weight_decay, fused=True)
        return optimisers

    def _load_starting_weights(self):
        opt = self.opt
        if opt.load_weights_folder:
            wanted = {name: self.models[name] for name in opt.models_to_load if name in self.models}
            if not wanted:
                raise UserError("no network of this run is to be loaded", f"--models_to_load {' '.join(opt.models_to_load)}",
                                f"name some of {' '.join(self.models)}")  # fmt: skip
            folder = existing_folder(opt.load_weights_folder)
            there = [name for name in wanted if os.path.isfile(os.path.join(folder, f"{name}.pth"))]
            if there and len(there) < len(wanted):
                raise UserError(f"the weights folder lacks {' and '.join(wanted.keys() - set(there))}", folder,
                                f"add --models_to_load {' '.join(there)}")  # fmt: skip
            load_networks(folder, wanted)
            log.info("loaded %s from %s", ", ".join(wanted), opt.load_weights_folder)
            self._load_optimisers(set(wanted))
        if opt.mypretrain:
            load_pretrained_encoder(self.models["encoder"], opt.mypretrain)

    def _load_optimisers(self, loaded):
        """Go on with the optimisers' moments where their file is there and all their networks were loaded."""
        for (name, optimiser), group in zip(self.optimisers.items(), (DEPTH_NETWORKS, POSE_NETWORKS), strict=False):
            path = os.path.join(existing_folder(self.opt.load_weights_folder), f"{name}.pth")
            if os.path.isfile(path) and {key for key in group if key in self.models} <= loaded:
                try:
                    load_moments(optimiser, read_state(path))
                except (ValueError, KeyError, TypeError) as error:  # of the published code, or of other networks
                    log.warning("%s does not fit (%s): the optimiser starts afresh", path, error)
                else:
                    log.info("loaded %s", path)

    def _wrap(self):
        network, losses = self.network, compute_losses
        if self.opt.compile:
            network.compile()
            losses = torch.compile(compute_losses)
        if self.processes.count > 1:
            ids = [self.processes.local_rank] if self.device.type == "cuda" else None
            network = torch.nn.parallel.DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)
        return network, losses

    # --- one step --------------------------------------------------------------------------------------------------

    def process_batch(self, inputs):
        """Predict, synthesise and compare: forward pass and losses only.

        Args:
            inputs: a batch of items as `datasets` makes them.

        Returns:
            (outputs, losses): the networks' outputs with the maps of `losses.compute_losses`, and the named terms.
        """
        inputs = self.prepare(inputs)
        with self.precision.autocast():
            outputs = self.wrapped(inputs)
        maps, losses = self.compute_losses(inputs, outputs, self.objective)
        return {**outputs, **maps}, losses

    def prepare(self, batch):
        """Move a batch to the device."""
        return {
            key: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }

    def _optimise(self, batches):
        """Take one optimiser step on `grad_accum` batches; return the last one's inputs and outputs, and the mean loss."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with contextlib.nullcontext() if last or self.processes.count == 1 else self.wrapped.no_sync():
                inputs = self.prepare(batch)
                outputs, losses = self.process_batch(inputs)
                loss = losses["loss"].item()
                self._stop_unless_finite("loss", loss, batches)
                self.precision.scaler.scale(losses["loss"] / len(batches)).backward()
            total += loss / len(batches)
        self._check_gradients(batches)
        for optimiser in self.optimisers.values():
            self.precision.scaler.step(optimiser)
        self.precision.scaler.update()
        return inputs, outputs, {name: value.item() for name, value in losses.items()} | {"loss": total}

    def _check_gradients(self, batches):
        """Stop before a step on gradients that are not finite; fp16's scaler skips such steps itself, for a while."""
        for optimiser in self.optimisers.values():
            self.precision.scaler.unscale_(optimiser)
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        finite = norm - norm == 0
        self.overflows = 0 if finite else self.overflows + 1
        if not self.precision.scaler.is_enabled() or self.overflows > OVERFLOWS:
            self._stop_unless_finite("gradient", norm, batches)

    def _stop_unless_finite(self, what, value, batches):
        path = os.path.join(self.run.path, "not_finite.json") if hasattr(self, "run") else "not_finite.json"
        guard.stop_unless_finite(what, value, path, lambda: self._report_not_finite(batches))

    def _report_not_finite(self, batches):
        lines = [[self._line(index) for index in batch.get("index", torch.empty(0)).tolist()] for batch in batches]
        good = self.states.paths() if hasattr(self, "states") else []
        return {"epoch": self.epoch, "step": self.step, "samples": lines, "learning_rates": self._rates(),
                "last_good_state": good[0] if good else None}  # fmt: skip

    def _line(self, index):
        line = self.train_set.lines[index]
        return f"{line.folder} {line.frame} {line.side}"

    def _rates(self):
        return {name: optimiser.param_groups[0]["lr"] for name, optimiser in self.optimisers.items()}

    # --- the run ---------------------------------------------------------------------------------------------------

    def train(self):
        """Run all epochs; on return the weights of the last one are in place.

        Raises:
            UserError: data, folders or states are not as they have to be, or a number was not finite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        self._open_data()
        self.run = RunFolder(self.opt.log_dir, self.opt.model_name)
        with guard.own_folder(self.run, self.processes, self._where), Interruption() as self.interruption:
            self._begin()
            while self.epoch < self.opt.num_epochs and not self._is_over():
                self._run_epoch()
            self.log.close()
        log.info("finished after %d steps: weights in %s", self.step, self.run.models)

    def _where(self):
        return f"rank {self.processes.rank} at step {self.step}"

    def _open_data(self):
        opt = self.opt
        if not os.path.isdir(opt.data_path):
            raise UserError("no such data folder", opt.data_path, "give --data_path; README tells how to get the data")
        self.split = resolve_split(opt.split)
        self.train_set = make_dataset(opt, self.split.lines("train"), self.objective, is_train=True)
        self.val_set = make_dataset(opt, self.split.lines("val"), self.objective, is_train=False)
        self.order = EpochOrder(len(self.train_set), opt.batch_size, opt.seed, self.processes)
        self.steps_per_epoch = len(self.order) // opt.grad_accum
        if not self.steps_per_epoch:
            needed = opt.batch_size * opt.grad_accum * self.processes.count
            raise UserError("fewer training items than one step takes", f"{len(self.train_set)} items, {needed} a step",
                            "lower --batch_size or --grad_accum")  # fmt: skip
        self.loader = make_loader(self.train_set, opt.num_workers, self.device, batch_sampler=self.order)
        share = range(self.processes.rank, len(self.val_set), self.processes.count)
        val_share = torch.utils.data.Subset(self.val_set, share)
        self.val_loader = make_loader(val_share, min(opt.num_workers, 4), self.device, batch_size=opt.batch_size)
        self.bad_samples = BadSamples(opt.on_bad_sample)

    def _begin(self):
        opt, first = self.opt, self.processes.is_first
        self.states = states.StateFolder(self.run.states, opt.keep_states)
        if opt.resume:
            self._resume()
        elif first:
            aside = self.run.set_aside()
            if aside:
                log.warning("an earlier run stood in %s: it is now in %s (--resume would have continued it)", self.run.path,
                            aside)  # fmt: skip
        if first:
            sweep(self.run.models)
        self.processes.wait()
        self.log = RunLog(self.run.path if first else None, self.step)
        self.alarms = Alarms(self.log.alarm)
        if not first:
            return
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self.run.record(opt, self._split_record(), device, self.processes.count)
        log.info("%s: %d training items, %d for validation, %d steps an epoch", self.split.name, len(self.train_set),
                 len(self.val_set), self.steps_per_epoch)  # fmt: skip
        log.info("batch of %d on each of %d processes: %d a step, on %s", opt.batch_size, self.processes.count,
                 opt.batch_size * opt.grad_accum * self.processes.count, device)  # fmt: skip
        log.info("run folder %s", self.run.path)
        if opt.save_start and not opt.resume:
            self._save_weights(self.run.weights("start"))
        for name, message in startup_notices(opt):
            self.alarms.announce(name, message, self.step)

    def _split_record(self):
        record = {}
        for part, dataset in (("train", self.train_set), ("val", self.val_set)):
            text = "\n".join(f"{line.folder} {line.frame} {line.side}" for line in dataset.lines)
            record[part] = (self.split.name, len(dataset), hashlib.sha256(text.encode()).hexdigest())
        return record

    def _run_epoch(self):
        self._set_learning_rates()
        self.network.train()
        self.order.begin(self.epoch, self.step_in_epoch * self.opt.grad_accum)
        for batches, waited in guard.grouped(self.loader, self.opt.grad_accum, self.bad_samples):
            inputs, outputs, losses = self._optimise(batches)
            self.step, self.step_in_epoch = self.step + 1, self.step_in_epoch + 1
            self._report(inputs, outputs, losses, waited)
            if self.opt.val_steps and self.step % self.opt.val_steps == 0 and self.step_in_epoch < self.steps_per_epoch:
                self._validate()
            if self.opt.save_steps and self.step % self.opt.save_steps == 0:
                self._save_state()
            self._stop_if_asked()
            if self.step_in_epoch == self.steps_per_epoch or self._is_over():
                break
        if self.step_in_epoch == self.steps_per_epoch or self._is_over():
            self._end_epoch()

    def _end_epoch(self):
        results = self._validate()
        finished = self.epoch
        last = finished + 1 == self.opt.num_epochs or self._is_over()
        if self.processes.is_first and (last or (finished + 1) % self.opt.save_frequency == 0):
            self._save_weights(self.run.weights(finished))
        self._keep_best(results, finished)
        self.epoch, self.step_in_epoch = finished + 1, 0
        self._save_state()
        self._stop_if_asked()

    def _is_over(self):
        return self.opt.max_steps is not None and self.step >= self.opt.max_steps

    def _set_learning_rates(self):
        numbers = {"adam": self.opt.lr[:3], "adam_pose": self.opt.lr[3:]}
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(self.epoch, *numbers[name])

    # --- reports ---------------------------------------------------------------------------------------------------

    def _report(self, inputs, outputs, losses, waited):
        images = len(inputs["color", 0, 0]) * self.opt.grad_accum * self.processes.count
        self.log.clock.count(images, waited)
        left = self.steps_per_epoch * (self.opt.num_epochs - self.epoch) - self.step_in_epoch
        if self.step % WATCH_STEPS == 0:
            values = watch(inputs, outputs, self.objective)
            self.alarms.check(self.step, values)
            self.log.scalars("train", self.step, values)
            self.alarms.check_loading(self.step, self.log.clock.rates()[1])
        if self.step % self.opt.log_frequency == 0 or self.step == 1:
            rates = {f"learning_rate/{name}": rate for name, rate in self._rates().items()}
            speed = {"images_per_second": self.log.clock.rates()[0]}
            self.log.scalars("train", self.step, losses | rates | speed)
            self.log.pictures("train", self.step, inputs, outputs, self.objective.sources, self.objective.scales)
        force = self.step_in_epoch in (1, self.steps_per_epoch)
        self.log.line(self.epoch, self.step_in_epoch, self.steps_per_epoch, left, losses["loss"], force)

    def _validate(self):
        if not len(self.val_set):
            return {}
        results, shown = validate(
            self.network,
            map(self.bad_samples.sift, self.val_loader),
            self.objective,
            protocol_for(self.opt.dataset),
            self.prepare,
            self.precision.autocast,
            self.processes,
        )
        self.log.scalars("val", self.step, results)
        if shown is not None:
            self.log.pictures("val", self.step, *shown, self.objective.sources, self.objective.scales)
        if self.processes.is_first:
            named = "  ".join(f"{name} {value:.4f}" for name, value in results.items())
            log.info("validation after step %d (%d items): %s", self.step, len(self.val_set), named)
        return results

    # --- what stays on disk ----------------------------------------------------------------------------------------

    def _save_weights(self, folder, **extra):
        opt = self.opt
        with replacing_folder(folder) as partial:
            described = opt.height, opt.width, opt.use_stereo, self.models["encoder"].dilations
            save_networks(partial, self.models, *described, depth_range=(opt.min_depth, opt.max_depth))
            for name, optimiser in self.optimisers.items():
                write_state(os.path.join(partial, f"{name}.pth"), optimiser.state_dict())
            if extra:
                write_json(os.path.join(partial, "metrics.json"), extra)

    def _keep_best(self, results, epoch):
        if not results:
            return
        metric = choose_metric(self.opt.best_metric, results)
        if metric not in results:
            raise UserError("no ground truth to choose weights by", f"--best_metric {metric}", "use --best_metric loss")
        rival = self.best["value"] if self.best["metric"] == metric else None
        if not is_better(metric, results[metric], rival):
            return
        self.best = {"metric": metric, "value": results[metric], "epoch": epoch}
        if self.processes.is_first:
            self._save_weights(self.run.weights("best"), epoch=epoch, step=self.step, chosen_by=metric, **results)
            log.info("best so far: epoch %d, %s %.4f", epoch, metric, results[metric])

    def _identity(self):
        """What has to be equal in the run that resumes, as plain values."""
        identity = {name: getattr(self.opt, name) for name in IDENTITY}
        identity["dilations"] = [list(stage) for stage in self.models["encoder"].dilations]
        identity["processes"] = self.processes.count
        return identity | {f"{part} split": digest for part, (_, _, digest) in self._split_record().items()}

    def _save_state(self):
        everyones_chance = self.processes.gather(random_states(self.device))
        if self.processes.is_first:
            self.states.save(self.step, {
                "identity": self._identity(),
                "progress": [self.epoch, self.step_in_epoch, self.step],
                "best": self.best,
                "networks": self.network.networks.state_dict(),
                "optimisers": {name: each.state_dict() for name, each in self.optimisers.items()},
                "scaler": self.precision.scaler.state_dict(),
                "overflows": self.overflows,
                "bad_samples": self.bad_samples.count,
                "random": everyones_chance,
            })  # fmt: skip

    def _resume(self):
        if self.opt.resume == "newest":
            path, state = self.states.newest()
        else:
            path, state = self.opt.resume, states.read(self.opt.resume)
        guard.check_identity(self._identity(), state["identity"])
        self.network.networks.load_state_dict(state["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        if state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        self.overflows, self.bad_samples.count = state["overflows"], state["bad_samples"]
        self.epoch, self.step_in_epoch, self.step = state["progress"]
        self.best = state["best"]
        restore_random_states(state["random"][self.processes.rank], self.device)
        log.info("resumed from %s: epoch %d, step %d", path, self.epoch, self.step)

    def _stop_if_asked(self):
        if self.processes.any(self.interruption.signum is not None):
            self._save_state()
            self.log.close()
            signum = next(each for each in self.processes.gather(self.interruption.signum) if each is not None)
            raise Interrupted(signum, self.run.states)


def load_moments(optimiser, state):
    """Load an optimiser's moments, but keep its own settings (rate, weight decay, kernel)."""
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, own in zip(optimiser.param_groups, settings, strict=True):
        group.update(own)


def make_objective(opt, network):
    """Return the `Objective` that the options describe for these networks."""
    return Objective(
        scales=tuple(opt.scales),
        sources=network.sources,
        min_depth=opt.min_depth,
        max_depth=opt.max_depth,
        smoothness=opt.disparity_smoothness,
        ssim=not opt.no_ssim,
        average=opt.avg_reprojection,
        automask=not opt.disable_automasking,
        v1_multiscale=opt.v1_multiscale,
        relative_translation=opt.pose_model_type == "posecnn",
        inverted=network.inverted,
    )


def make_dataset(opt, lines, objective, is_train):
    """Return the data set of the options, which computes only what networks and objective use."""
    frames = (0, *objective.sources)
    keys = {("color", frame, objective.image_scale(scale)) for frame in frames for scale in objective.scales}
    keys |= {("color", 0, scale) for scale in objective.scales}  # for the smoothness
    keys |= {("color_aug", frame, 0) for frame in opt.frame_ids}
    kind = functools.partial(
        dataset_class(opt.dataset), opt.data_path, lines, opt.height, opt.width, frames, max(opt.scales) + 1, is_train,
        ".png" if opt.png else ".jpg", seed=opt.seed, jitter_per_image=opt.jitter_per_image,
    )  # fmt: skip
    dataset = kind(keys=keys)
    return kind(keys=keys | {"depth_gt"}) if not is_train and dataset.has_depth() else dataset


def watch(inputs, outputs, objective):
    """Return the numbers that the alarms judge: {"spread", "motion", "masked"}, as far as the run has them."""
    disp = outputs["disp", 0].detach().float()
    values = {"spread": (disp.std((1, 2, 3)) / disp.mean((1, 2, 3))).mean().item()}
    motions = [outputs["translation", 0, frame].detach().norm(dim=-1) for frame in objective.sources if frame != "s"]
    if motions:
        values["motion"] = torch.stack(motions).mean().item()
    if "identity_selection/0" in outputs:
        values["masked"] = 1 - outputs["identity_selection/0"].mean().item()
    return values
