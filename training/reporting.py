"""What a run says while it goes: numbers, pictures, a steady line and alarms, on the terminal and in TensorBoard."""

import logging

from training.alarms import Alarms, startup_notices, watch

log = logging.getLogger(__name__)

WATCH_STEPS = 50  # steps between looks at the alarms' numbers


class Reporter:
    """Speaks for a run, in its first process alone.

    Args:
        opt: the options.
        log: `run.log.RunLog`.
        objective: `losses.objective.Objective`.
        data: `data.TrainingData`.
        processes: how many train together.
    """

    def __init__(self, opt, log, objective, data, processes):
        self.opt, self.log, self.objective, self.data, self.processes = opt, log, objective, data, processes
        self.alarms = Alarms(log.alarm)

    def start(self, step, device, folder):
        """Say what is trained on what, and what the options alone already tell; `device`, `folder`: their names."""
        opt, data = self.opt, self.data
        log.info("%s: %d training items, %d for validation, %d steps an epoch", data.split.name,
                 len(data.train_set), len(data.val_set), data.steps_per_epoch)  # fmt: skip
        log.info("batch of %d on each of %d processes: %d a step, on %s", opt.batch_size, self.processes,
                 opt.batch_size * opt.grad_accum * self.processes, device)  # fmt: skip
        log.info("run folder %s", folder)
        for name, message in startup_notices(opt):
            self.alarms.announce(name, message, step)

    def step(self, step, inputs, outputs, losses, rates, waited):
        """Take in a step that was taken.

        Args:
            step: its number, from 1.
            inputs, outputs: of its last batch.
            losses: {term: number}.
            rates: {optimiser: learning rate}.
            waited: seconds for its data.
        """
        clock, objective = self.log.clock, self.objective
        clock.count(len(inputs["color", 0, 0]) * self.opt.grad_accum * self.processes, waited)
        if step % WATCH_STEPS == 0 and self.log.speaks:
            values = watch(inputs, outputs, objective)
            self.alarms.check(step, values)
            self.log.scalars("train", step, values)
            self.alarms.check_loading(step, clock.rates()[1])
        if step % self.opt.log_frequency == 0 or step == 1:
            rates = {f"learning_rate/{name}": rate for name, rate in rates.items()}
            speed = dict(zip(("images_per_second", "waiting"), clock.rates()[:2], strict=True))
            self.log.scalars("train", step, losses | rates | speed)
            self.log.pictures("train", step, inputs, outputs, objective.sources, objective.scales)

    def line(self, epoch, step_in_epoch, loss):
        """Say where the run is, now and then and at both ends of an epoch."""
        steps = self.data.steps_per_epoch
        left = steps * (self.opt.num_epochs - epoch) - step_in_epoch
        self.log.line(epoch, step_in_epoch, steps, left, loss, force=step_in_epoch in (1, steps))

    def validation(self, step, results, shown, of_average=False):
        """Tell {metric: value} of a validation after a step; `shown`: inputs and outputs to picture, or None."""
        prefix = "ema/" if of_average else ""
        self.log.scalars("val", step, {f"{prefix}{name}": value for name, value in results.items()})
        if shown is not None and not of_average:
            self.log.pictures("val", step, *shown, self.objective.sources, self.objective.scales)
        if self.log.speaks:
            named = "  ".join(f"{name} {value:.4f}" for name, value in results.items())
            what = "validation of the average" if of_average else "validation"
            log.info("%s after step %d (%d items): %s", what, step, len(self.data.val_set), named)
