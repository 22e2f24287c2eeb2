"""The weights folders that a run leaves behind: of its epochs, of the best validation, and of averaged weights."""

import logging
import os

from checkpointing.files import write_state
from checkpointing.folders import save_networks
from system.files import replacing_folder, write_json
from training.averaged_weights import NEWEST as NEWEST_AVERAGE
from training.best import better, no_best

log = logging.getLogger(__name__)

BEST = "best"


class KeptWeights:
    """Writes weights folders, each whole or not at all, and remembers which validation was the best.

    Args:
        opt: the options.
        run: `run.folder.RunFolder`.
        models: name -> network.
        optimisation: `optimisation.Optimisation`, whose moments lie beside the networks.
        average: `averaged_weights.AveragedWeights`, or None.
        writes: whether this process writes.

    Attributes:
        best: {"metric", "value", "epoch"} of the best validation so far; the average has its own.
    """

    def __init__(self, opt, run, models, optimisation, average, writes):
        self.opt, self.run, self.models, self.optimisation = opt, run, models, optimisation
        self.average, self.writes = average, writes
        self.best = no_best()

    def save(self, which, **facts):
        """Write weights_<which>: networks and optimisers, and `facts` as its metrics.json."""
        if self.writes:
            self._write(which, self.models, self.optimisation.moments(), facts)

    def save_average(self, which=NEWEST_AVERAGE, **facts):
        """Write weights_<which>: the averaged networks, where an average is kept."""
        if self.writes and self.average:
            self._write(which, self.average.models, {}, facts)

    def keep_best(self, results, step, epoch):
        """Write the networks that validated best so far.

        Args:
            results: weights folder -> {metric: value}: "best" of the networks, "ema_best" of their average.
            step, epoch: at which they were validated.

        Raises:
            UserError: the metric that decides is not among the results.
        """
        for which, found in results.items():
            holder = self if which == BEST else self.average
            best = better(holder.best, self.opt.best_metric, found, epoch)
            if not best:
                continue
            holder.best = best
            save, name = (self.save, "best") if which == BEST else (self.save_average, "best average")
            save(which, epoch=epoch, step=step, chosen_by=best["metric"], **found)
            if self.writes:
                log.info("%s so far: epoch %d, %s %.4f", name, epoch, best["metric"], best["value"])

    def _write(self, which, models, moments, facts):
        opt = self.opt
        with replacing_folder(self.run.weights(which)) as partial:
            described = opt.height, opt.width, opt.use_stereo, self.models["encoder"].dilations
            save_networks(partial, models, *described, depth_range=(opt.min_depth, opt.max_depth))
            for name, state in moments.items():
                write_state(os.path.join(partial, f"{name}.pth"), state)
            if facts:
                write_json(os.path.join(partial, "metrics.json"), facts)
