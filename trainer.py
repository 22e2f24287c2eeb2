"""Self-supervised training: depth and motion networks learn from video by predicting each frame from its neighbours.

`Trainer(opt)` builds networks and optimisers; `process_batch` is the objective alone; `train` is the whole run, and
`run` all that train.py does with its options.
"""

import contextlib
import logging

import torch

from checkpointing.fetched import pretrained_encoder, weights_folder
from evaluation.cost import network_cost
from losses.objective import compute_losses
from reports import after_training
from system import distributed as process_group
from system import memory
from system.errors import UserError
from system.files import sweep
from training.averaged_weights import BEST as AVERAGE_BEST
from training.averaged_weights import AveragedWeights
from training.cuda_graph import RecordedStep, refuse_unless_recordable
from training.data import TrainingData, find_split
from training.kept_weights import BEST, KeptWeights
from training.model import DepthAndMotion, sum_of_motions
from training.objective import make_objective
from training.optimisation import Optimisation, numbers_of
from training.reporting import Reporter
from training.resumption import Resumption
from training.run import session
from training.run.compilation import compile_network, compiled, uncompiled
from training.run.failures import holding_folder, one_line
from training.run.folder import RunFolder
from training.run.interruption import Interruption
from training.run.log import RunLog
from training.run.not_finite import FiniteCheck, reporting_not_finite
from training.run.precision import Precision, choose_device, device_name, set_up
from training.run.randomness import seed_everything
from training.run.states import StateFolder
from training.starting_weights import follow_weights, load_starting_weights
from training.supervision import scheduled
from training.validation import protocol_for, validate

log = logging.getLogger(__name__)

BYTES_A_PIXEL = 500  # that a step takes on a CPU at the very least; lite-mono-tiny with PoseCNN measured 930


class Trainer:
    """A training run.

    Args:
        opt: the namespace of `options.LiteMonoOptions().parse(...)`. Data and folders are first touched by `train`.

    Attributes:
        models: name -> network: encoder, depth, and as asked pose_encoder, pose, predictive_mask.
        epoch, step_in_epoch, step: where the run is: epochs and steps that are finished.

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
        if self.device.type == "cpu":
            pixels = opt.batch_size * opt.height * opt.width
            memory.refuse_beyond(pixels * BYTES_A_PIXEL, f"{opt.batch_size} x {opt.width}x{opt.height} pixels a step",
                                 "lower --height and --width, or --batch_size with more --grad_accum")  # fmt: skip
        set_up(self.device, opt.deterministic)
        seed_everything(opt.seed)
        self.run = RunFolder(opt.log_dir, opt.model_name)
        self.states = StateFolder(self.run.states, opt.keep_states)
        self.finite = FiniteCheck(self.run.not_finite, self._facts)
        self.precision = Precision(opt.amp, self.device)

        self.network = DepthAndMotion(opt, follow_weights(opt, self.states)).to_device(self.device)
        self.models = dict(self.network.networks.items())
        self.optimisation = Optimisation(self.models, opt.weight_decay, opt.lr, self.precision.scaler, opt.cuda_graph)
        with reporting_not_finite(self.run, self.processes):
            load_starting_weights(opt, self.models, self.optimisation)
        if opt.sync_bn and self.processes.count > 1:  # layers are exchanged inside the networks, which stay
            self.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.objective = make_objective(opt, self.network)
        self.average = AveragedWeights(self.network, opt.ema) if opt.ema else None
        self.kept = KeptWeights(opt, self.run, self.models, self.optimisation, self.average, self.processes.is_first)
        self.resumption = Resumption(opt, self.run, self.states, self.network, self.optimisation, self.kept,
                                     self.processes, self.device)  # fmt: skip

        if opt.compile:
            compile_network(self.network, self.device)
        static = opt.grad_accum == 1 and not opt.compile
        self.wrapped = self.processes.parallel(self.network, self.device, static)
        self.compute_losses = compiled(compute_losses, opt.compile, self.device)
        record = opt.cuda_graph
        self.device_step = RecordedStep(self._device_step, opt.batch_size, self.device) if record else self._device_step
        seed_everything(opt.seed + 1 + self.processes.rank)
        self.epoch, self.step_in_epoch, self.step = 0, 0, 0

    # --- one step --------------------------------------------------------------------------------------------------

    def process_batch(self, inputs):
        """Predict, synthesise and compare: forward pass and losses only.

        Args:
            inputs: a batch of items as `datasets` makes them.

        Returns:
            (outputs, losses): the networks' outputs with the maps of `losses.compute_losses`, and the named terms.
        """
        inputs = self.prepare(inputs)
        with self._uncompiled_if_short(inputs):
            with self.precision.autocast():
                outputs = self.wrapped(inputs)
            maps, losses = self.compute_losses(inputs, outputs, self.objective)
        return {**outputs, **maps}, losses

    def prepare(self, batch):
        """Move a batch to the device, and do there what its items have left to it; a prepared one passes through."""
        batch = {
            key: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        if "flip" not in batch:
            return batch
        with self._uncompiled_if_short(batch):
            return self.data.complete(batch)

    def _uncompiled_if_short(self, batch):
        """Return a context in which a batch of another size than usual does not make anything be compiled anew."""
        return uncompiled(self.opt.compile and len(batch["color", 0, 0]) < self.opt.batch_size)

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
            self.finite.refuse(what, values[what], batches)
        if self.optimisation.has_failed(values["gradient"]):
            self.finite.refuse("gradient", values["gradient"], batches)
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
                with self.finite.as_one_line(batches):
                    outputs, losses = self.process_batch(inputs)
                self.optimisation.backward(losses["loss"] / len(batches))
            total = total + losses["loss"].detach() / len(batches)
            motion = motion + sum_of_motions(outputs)
        norm = self.optimisation.step((total, motion))
        return inputs, outputs, {**losses, "loss": total, "motion": motion, "gradient": norm}

    def _facts(self, batches):
        """What a report of numbers that are not finite says of the run."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "samples": [self.data.names(batch) for batch in batches],
            "learning_rates": self.optimisation.rates(),
            "last_good_state": next(iter(self.states.paths()), None),
        }

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

    def _begin(self):
        opt, first = self.opt, self.processes.is_first
        resumes = self.resumption.is_asked()
        if resumes:
            self.epoch, self.step_in_epoch, self.step = self.resumption.resume(self.data)
        elif first:
            aside = self.run.set_aside()
            if aside:
                log.warning("an earlier run was found here: it is now in %s (--resume would have continued it)", aside)
        if first:
            sweep(self.run.models)
        self.processes.wait()
        self.log = RunLog(self.run.path if first else None, self.step)
        self.reporter = Reporter(opt, self.log, self.objective, self.data, self.processes.count)
        if first:
            self.run.record(opt, self.data.record(), device_name(self.device), self.processes.count)
            self.reporter.start(self.step, device_name(self.device), self.run.path)
            if opt.profile:
                log.info("%s", network_cost(self.models["encoder"], self.models["depth"], opt.height, opt.width))
            if opt.save_start and not resumes:
                self.kept.save("start")

    def _run_epoch(self):
        self.optimisation.set_epoch(self.epoch)
        self.network.train()
        for batches, waited in self.data.steps(self.epoch, self.step_in_epoch):
            inputs, outputs, losses = self._optimise(batches)
            self.step, self.step_in_epoch = self.step + 1, self.step_in_epoch + 1
            self.reporter.step(self.step, inputs, outputs, losses, self.optimisation.rates(), waited)
            self.reporter.line(self.epoch, self.step_in_epoch, losses["loss"])
            if self._ends_epoch() or self._is_over():
                break
            if self.opt.val_steps and self.step % self.opt.val_steps == 0:
                self.kept.keep_best(self._validate(), self.step, self.epoch)
            if self.opt.save_steps and self.step % self.opt.save_steps == 0:
                self._save_state()
            self._stop_if_asked()
        self._end_epoch()

    def _end_epoch(self):
        results = self._validate()
        last = self._is_over() or self.epoch + 1 == self.opt.num_epochs
        if last or (self.epoch + 1) % self.opt.save_frequency == 0:
            self.kept.save(self.epoch)
            self.kept.save_average()
        self.kept.keep_best(results, self.step, self.epoch)
        if self._ends_epoch():
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self._save_state()
        self._stop_if_asked()

    def _validate(self):
        """Return {weights folder of the best: results} of the networks, and of their average where one is kept."""
        if not len(self.data.val_set):
            return {}
        results = {BEST: self._validate_one(self.network)}
        if self.average:
            results[AVERAGE_BEST] = self._validate_one(self.average.network, of_average=True)
        return results

    def _validate_one(self, network, of_average=False):
        protocol, autocast = protocol_for(self.opt.dataset), self.precision.autocast
        with self.finite.as_one_line(), uncompiled(self.opt.compile):
            results, shown = validate(network, self.data.validation(), self.objective, protocol, self.prepare, autocast,
                                      self.processes)  # fmt: skip
        self.reporter.validation(self.step, results, shown, of_average)
        return results

    def _save_state(self):
        self.resumption.save([self.epoch, self.step_in_epoch, self.step], self.data)

    def _stop_if_asked(self):
        if self.interruption.is_asked_of_any(self.processes):
            self._save_state()
            self.log.close()
            self.interruption.stop(self.processes, self.run.states)

    def _where(self):
        return f"rank {self.processes.rank} at step {self.step}"

    def _progress(self):
        return self.step / (self.data.steps_per_epoch * self.opt.num_epochs)

    def _ends_epoch(self):
        return self.step_in_epoch == self.data.steps_per_epoch

    def _is_over(self):
        return self.opt.max_steps is not None and self.step >= self.opt.max_steps


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
