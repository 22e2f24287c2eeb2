"""Self-supervised training: depth and motion networks learn from video by predicting each frame from its neighbours.

`Trainer(opt)` builds networks and optimisers; `process_batch` is the objective alone; `train` is the whole run, and
`run` all that train.py does with its options.
"""

import contextlib
import logging
import math
import os

import torch

from checkpointing.fetched import pretrained_encoder, weights_folder
from checkpointing.files import load_strictly, write_state
from checkpointing.folders import save_networks
from evaluation.cost import network_cost
from losses.objective import Objective, compute_losses
from losses.supervision_options import unused
from options import FREE_ON_RESUME
from reports import after_training
from system import distributed as process_group
from system.errors import UserError
from system.files import replacing_folder, sweep, write_json
from training.alarms import Alarms, startup_notices, watch
from training.averaged_weights import BEST as EMA_BEST
from training.averaged_weights import NEWEST as EMA
from training.averaged_weights import AveragedWeights
from training.cuda_graph import RecordedStep, refuse_unless_recordable
from training.data import TrainingData, find_split
from training.model import DepthAndMotion, sum_of_motions
from training.optimisation import Optimisation, numbers_of
from training.resumption import check_content, check_progress, restored
from training.run import session
from training.run import states as states
from training.run.failures import holding_folder, one_line, reporting_not_finite, stop_unless_finite
from training.run.folder import RunFolder
from training.run.identity import check_identity, identity
from training.run.interruption import Interrupted, Interruption
from training.run.log import RunLog
from training.run.precision import (
    Precision,
    choose_device,
    compile_options,
    random_states,
    restore_random_states,
    seed_everything,
    set_up,
)
from training.starting_weights import follow_weights, load_starting_weights
from training.supervision import scheduled, supervision_of
from training.validation import choose_metric, is_better, protocol_for, validate

log = logging.getLogger(__name__)

BEST = "best"
WATCH_STEPS = 50  # steps between looks at the alarms' numbers


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
        wants_cuda = choose_device(opt.no_cuda, name=opt.device).type == "cuda"
        self.processes = process_group.start(wants_cuda)
        self.device = choose_device(opt.no_cuda, self.processes.local_rank, opt.device)
        if opt.sync_bn and self.processes.count > 1 and self.device.type != "cuda":
            raise UserError("BatchNorm statistics are shared between GPUs only", "--sync_bn", "drop --sync_bn")
        if opt.cuda_graph:
            refuse_unless_recordable(opt, self.device, self.processes)
        set_up(self.device, opt.deterministic)
        seed_everything(opt.seed)
        self.run = RunFolder(opt.log_dir, opt.model_name)
        self.states = states.StateFolder(self.run.states, opt.keep_states)
        self.network = DepthAndMotion(opt, follow_weights(opt, self.states)).to_device(self.device)
        self.models = dict(self.network.networks.items())
        self.precision = Precision(opt.amp, self.device)
        self.optimisation = Optimisation(self.models, opt.weight_decay, opt.lr, self.precision.scaler,
                                         opt.cuda_graph)  # fmt: skip
        with reporting_not_finite(self.run, self.processes):
            load_starting_weights(opt, self.models, self.optimisation)
        if opt.sync_bn and self.processes.count > 1:
            self.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
            self.models = dict(self.network.networks.items())
        self.objective = make_objective(opt, self.network)
        self.average = AveragedWeights(self.network, opt.ema) if opt.ema else None
        self.wrapped, self.compute_losses = self._wrap()
        record = opt.cuda_graph
        self.device_step = RecordedStep(self._device_step, opt.batch_size, self.device) if record else self._device_step
        seed_everything(opt.seed + 1 + self.processes.rank)

        self.epoch, self.step_in_epoch, self.step = 0, 0, 0
        self.best = {"metric": None, "value": None, "epoch": None}

    # --- set-up ----------------------------------------------------------------------------------------------------

    def _wrap(self):
        network, losses = self.network, compute_losses
        if self.opt.compile:
            if self.device.type == "cpu":
                log.warning("--compile on a CPU: the first step takes minutes, on all cores")
            network.compile(**compile_options(self.device))
            losses = torch.compile(compute_losses, **compile_options(self.device))
        static = self.opt.grad_accum == 1 and not self.opt.compile
        return self.processes.parallel(network, self.device, static), losses

    # --- one step --------------------------------------------------------------------------------------------------

    def process_batch(self, inputs):
        """Predict, synthesise and compare: forward pass and losses only.

        Args:
            inputs: a batch of items as `datasets` makes them.

        Returns:
            (outputs, losses): the networks' outputs with the maps of `losses.compute_losses`, and the named terms.
        """
        inputs = self.prepare(inputs)
        with self._as_it_is(short=len(inputs["color", 0, 0]) < self.opt.batch_size):
            with self.precision.autocast():
                outputs = self.wrapped(inputs)
            maps, losses = self.compute_losses(inputs, outputs, self.objective)
        return {**outputs, **maps}, losses

    def _as_it_is(self, short=True):
        """Return a context in which nothing compiled runs: for short batches and validation it is not made anew."""
        return torch.compiler.set_stance("force_eager") if self.opt.compile and short else contextlib.nullcontext()

    def prepare(self, batch):
        """Move a batch to the device, and do there what its items have left to it; a prepared one passes through."""
        batch = {
            key: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        if "flip" not in batch:
            return batch
        with self._as_it_is(short=len(batch["color", 0, 0]) < self.opt.batch_size):
            return self.data.complete(batch)

    def _optimise(self, batches):
        """Take one optimiser step on `grad_accum` batches; return the last one's inputs and outputs, and the losses.

        The host waits for the device once, here. A step with a number that is not finite is left out on the
        device itself, so that weights and moments are still those of the step before when the run stops for it.
        """
        if self.opt.pseudo_depth:
            now, here = self._progress(), torch.device("cpu")
            batches = [batch | scheduled(self.opt, now, len(batch["color", 0, 0]), here) for batch in batches]
        inputs, outputs, numbers = self.device_step(batches)
        values = numbers_of(numbers)
        for what in ("loss", "motion"):
            self._refuse_unless_finite(what, values[what], batches)
        if self.optimisation.has_failed(values["gradient"]):
            self._refuse_unless_finite("gradient", values["gradient"], batches)
        if self.average:
            self.average.update(self.network)
        return inputs, outputs, {name: value for name, value in values.items() if name not in ("motion", "gradient")}

    def _device_step(self, batches):
        """Do all that a step asks of the device; return the last inputs and outputs, and {name: scalar}."""
        self.optimisation.zero_grad()
        total = motion = 0
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with contextlib.nullcontext() if last or self.processes.count == 1 else self.wrapped.no_sync():
                inputs = self.prepare(batch)
                with self._not_finite_as_one_line(batches):
                    outputs, losses = self.process_batch(inputs)
                self.optimisation.backward(losses["loss"] / len(batches))
            total = total + losses["loss"].detach() / len(batches)
            motion = motion + sum_of_motions(outputs)
        norm = self.optimisation.step((total, motion))
        return inputs, outputs, {**losses, "loss": total, "motion": motion, "gradient": norm}

    @contextlib.contextmanager
    def _not_finite_as_one_line(self, batches=()):
        try:
            yield
        except FloatingPointError as error:  # whose text says what is not finite
            self._refuse_unless_finite(str(error), math.nan, batches)

    def _refuse_unless_finite(self, what, value, batches):
        def report():
            return {
                "epoch": self.epoch,
                "step": self.step,
                "samples": [self.data.names(batch) for batch in batches],
                "learning_rates": self.optimisation.rates(),
                "last_good_state": next(iter(self.states.paths()), None),
            }

        stop_unless_finite(what, value, self.run.not_finite, report)

    # --- the run ---------------------------------------------------------------------------------------------------

    def train(self):
        """Run all epochs; on return the weights of the last one are in place.

        Raises:
            UserError: data, folders or states are not as they have to be, or a number was not finite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        with one_line(self._where):
            self.data = TrainingData(self.opt, self.objective, self.processes, self.device)
        with holding_folder(self.run, self.processes, self._where), Interruption() as self.interruption:
            self._begin()
            while self.epoch < self.opt.num_epochs and not self._is_over():
                self._run_epoch()
            self.log.close()
        log.info("finished after %d steps: weights in %s", self.step, self.run.models)

    def _where(self):
        return f"rank {self.processes.rank} at step {self.step}"

    def _begin(self):
        opt, first = self.opt, self.processes.is_first
        resumes = self._finds_a_state() if opt.resume == "auto" else bool(opt.resume)
        if resumes:
            self._resume()
        elif first:
            aside = self.run.set_aside()
            if aside:
                log.warning("an earlier run was found here: it is now in %s (--resume would have continued it)", aside)
        if first:
            sweep(self.run.models)
        self.processes.wait()
        self.log = RunLog(self.run.path if first else None, self.step)
        self.alarms = Alarms(self.log.alarm)
        if not first:
            return
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self.run.record(opt, self.data.record(), device, self.processes.count)
        log.info("%s: %d training items, %d for validation, %d steps an epoch", self.data.split.name,
                 len(self.data.train_set), len(self.data.val_set), self.data.steps_per_epoch)  # fmt: skip
        log.info("batch of %d on each of %d processes: %d a step, on %s", opt.batch_size, self.processes.count,
                 opt.batch_size * opt.grad_accum * self.processes.count, device)  # fmt: skip
        log.info("run folder %s", self.run.path)
        if opt.profile:
            self._tell_cost()
        if opt.save_start and not resumes:
            self._save_weights(self.run.weights("start"))
        for name, message in startup_notices(opt):
            self.alarms.announce(name, message, self.step)

    def _tell_cost(self):
        was = self.network.training
        encoder, depth = self.models["encoder"].eval(), self.models["depth"].eval()
        log.info("%s", network_cost(encoder, depth, self.opt.height, self.opt.width))
        self.network.train(was)

    def _run_epoch(self):
        self.optimisation.set_epoch(self.epoch)
        self.network.train()
        for batches, waited in self.data.steps(self.epoch, self.step_in_epoch):
            inputs, outputs, losses = self._optimise(batches)
            self.step, self.step_in_epoch = self.step + 1, self.step_in_epoch + 1
            self._report(inputs, outputs, losses, waited)
            if self._ends_epoch() or self._is_over():
                break
            if self.opt.val_steps and self.step % self.opt.val_steps == 0:
                self._keep_best(self._validate())
            if self.opt.save_steps and self.step % self.opt.save_steps == 0:
                self._save_state()
            self._stop_if_asked()
        self._end_epoch()

    def _end_epoch(self):
        results = self._validate()
        last = self._is_over() or self.epoch + 1 == self.opt.num_epochs
        if self.processes.is_first and (last or (self.epoch + 1) % self.opt.save_frequency == 0):
            self._save_weights(self.run.weights(self.epoch))
            if self.average:
                self._save_weights(self.run.weights(EMA), self.average.models)
        self._keep_best(results)
        if self._ends_epoch():
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self._save_state()
        self._stop_if_asked()

    def _progress(self):
        return self.step / (self.data.steps_per_epoch * self.opt.num_epochs)

    def _ends_epoch(self):
        return self.step_in_epoch == self.data.steps_per_epoch

    def _is_over(self):
        return self.opt.max_steps is not None and self.step >= self.opt.max_steps

    # --- reports ---------------------------------------------------------------------------------------------------

    def _report(self, inputs, outputs, losses, waited):
        images = len(inputs["color", 0, 0]) * self.opt.grad_accum * self.processes.count
        self.log.clock.count(images, waited)
        left = self.data.steps_per_epoch * (self.opt.num_epochs - self.epoch) - self.step_in_epoch
        if self.step % WATCH_STEPS == 0 and self.processes.is_first:
            values = watch(inputs, outputs, self.objective)
            self.alarms.check(self.step, values)
            self.log.scalars("train", self.step, values)
            self.alarms.check_loading(self.step, self.log.clock.rates()[1])
        if self.step % self.opt.log_frequency == 0 or self.step == 1:
            rates = {f"learning_rate/{name}": rate for name, rate in self.optimisation.rates().items()}
            speed = dict(zip(("images_per_second", "waiting"), self.log.clock.rates()[:2], strict=True))
            self.log.scalars("train", self.step, losses | rates | speed)
            self.log.pictures("train", self.step, inputs, outputs, self.objective.sources, self.objective.scales)
        force = self.step_in_epoch in (1, self.data.steps_per_epoch)
        self.log.line(self.epoch, self.step_in_epoch, self.data.steps_per_epoch, left, losses["loss"], force)

    def _validate(self):
        """Return {weights folder of the best: results} of the networks, and of their average where one is kept."""
        if not len(self.data.val_set):
            return {}
        results = {BEST: self._validate_one(self.network)}
        if self.average:
            results[EMA_BEST] = self._validate_one(self.average.network, "ema/")
        return results

    def _validate_one(self, network, prefix=""):
        with self._not_finite_as_one_line(), self._as_it_is():
            results, shown = validate(
                network,
                self.data.validation(),
                self.objective,
                protocol_for(self.opt.dataset),
                self.prepare,
                self.precision.autocast,
                self.processes,
            )
        self.log.scalars("val", self.step, {f"{prefix}{name}": value for name, value in results.items()})
        if shown is not None and not prefix:
            self.log.pictures("val", self.step, *shown, self.objective.sources, self.objective.scales)
        if self.processes.is_first:
            named = "  ".join(f"{name} {value:.4f}" for name, value in results.items())
            what = "validation of the average" if prefix else "validation"
            log.info("%s after step %d (%d items): %s", what, self.step, len(self.data.val_set), named)
        return results

    # --- what stays on disk ----------------------------------------------------------------------------------------

    def _save_weights(self, folder, average=None, **extra):
        """Write a weights folder: the networks with their optimisers, or the networks of the average alone."""
        opt = self.opt
        with replacing_folder(folder) as partial:
            described = opt.height, opt.width, opt.use_stereo, self.models["encoder"].dilations
            save_networks(partial, average or self.models, *described, depth_range=(opt.min_depth, opt.max_depth))
            for name, moments in ({} if average else self.optimisation.moments()).items():
                write_state(os.path.join(partial, f"{name}.pth"), moments)
            if extra:
                write_json(os.path.join(partial, "metrics.json"), extra)

    def _keep_best(self, validated):
        for which, results in validated.items():
            metric = choose_metric(self.opt.best_metric, results)
            if metric not in results:
                fix = "use --best_metric loss"
                raise UserError("no ground truth to choose weights by", f"--best_metric {metric}", fix)
            best = self.best if which == BEST else self.average.best
            rival = best["value"] if best["metric"] == metric else None
            if not is_better(metric, results[metric], rival):
                continue
            best |= {"metric": metric, "value": results[metric], "epoch": self.epoch}
            if self.processes.is_first:
                average = None if which == BEST else self.average.models
                facts = {"epoch": self.epoch, "step": self.step, "chosen_by": metric, **results}
                self._save_weights(self.run.weights(which), average, **facts)
                name = "best so far" if which == BEST else "best average so far"
                log.info("%s: epoch %d, %s %.4f", name, self.epoch, metric, results[metric])

    def _identity(self):
        """What has to be equal in the run that resumes, as plain values."""
        facts = {
            "dilations": [list(stage) for stage in self.models["encoder"].dilations],
            "processes": self.processes.count,
        }
        facts |= {f"{part} split": digest for part, (_, _, digest) in self.data.record().items()}
        if self.opt.pseudo_depth:
            facts["use of pseudo-labels"] = True
        return identity(self.opt, (*FREE_ON_RESUME, *unused(self.opt)), **facts)

    def _save_state(self):
        random_of_all = self.processes.gather(random_states(self.device))
        if self.processes.is_first:
            self.states.save(self.step, {
                "identity": self._identity(),
                "progress": [self.epoch, self.step_in_epoch, self.step],
                "best": self.best,
                "networks": self.network.networks.state_dict(),
                "optimisation": self.optimisation.state_dict(),
                "bad_samples": self.data.bad_samples.count,
                "random": random_of_all,
                **({"average": self.average.state_dict()} if self.average else {}),
            })  # fmt: skip

    def _finds_a_state(self):
        """Whether there is something to continue, as the first process sees it."""
        return self.processes.from_first(bool(self.states.paths()))

    def _resume(self):
        if self.opt.resume in ("newest", "auto"):
            path, state = self.states.newest()
        else:
            path, state = self.opt.resume, states.read(self.opt.resume)
        check_content(state, path)
        way_out = f"start a new run from its weights: --load_weights_folder {self.run.weights('best')}, no --resume"
        check_identity(self._identity(), state["identity"], way_out)
        check_progress(state["progress"], self.data.steps_per_epoch, self.opt.num_epochs, path)
        with reporting_not_finite(self.run, self.processes):
            load_strictly(self.network.networks, state["networks"], path)
            self.optimisation.load_state_dict(state["optimisation"], path)
            if self.average:
                self.average.load_state_dict(state.get("average"), path)
        self.data.bad_samples.count = state["bad_samples"]
        self.epoch, self.step_in_epoch, self.step = state["progress"]
        self.best = state["best"]
        restored(lambda each: restore_random_states(each, self.device), state["random"], self.processes.rank, path)
        log.info("resumed from %s: epoch %d, step %d", path, self.epoch, self.step)

    def _stop_if_asked(self):
        if self.processes.any(self.interruption.signum is not None):
            self._save_state()
            self.log.close()
            signum = next(each for each in self.processes.gather(self.interruption.signum) if each is not None)
            raise Interrupted(signum, self.run.states)


def run(opt):
    """Train as the options of train.py say, from names of weights to the report; return the exit code.

    Raises:
        UserError: as `Trainer` and `Trainer.train`; weights or a report that cannot be had.
    """
    if opt.report:
        after_training.check(opt)
    opt.load_weights_folder = weights_folder(opt.load_weights_folder)
    opt.mypretrain = pretrained_encoder(opt.mypretrain)
    find_split(opt)  # before the pose network's weights are fetched

    def work(trainer):
        trainer.train()
        if opt.report and trainer.processes.is_first:
            after_training.write(opt, trainer.run.path)

    return session.run(lambda: Trainer(opt), work)


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
        supervision=supervision_of(opt),
    )
