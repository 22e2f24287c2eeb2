"""Saving the state of a training run, and going on from one as if the run had never stopped."""

import logging

from checkpointing.files import load_strictly
from losses.supervision_options import unused
from training.run import states
from training.run.identity import check_identity, identity
from training.run.not_finite import reporting_not_finite
from training.run.randomness import random_states
from training.state_content import check_content, check_progress, restore_random

log = logging.getLogger(__name__)

# What a resumed run may change: where things lie, how fast they are read, what is written how often, when it ends, and
# what its state holds anyway. Every other option has to be the same for the run to be the one that was interrupted.
FREE_ON_RESUME = (
    "data_path", "pseudo_depth", "split", "num_workers", "cache", "no_cuda", "compile", "cuda_graph", "deterministic",
    "mypretrain", "load_weights_folder", "models_to_load", "weights_init", "dilations", "recipe", "print_recipe",
    "scheduler_step_size", "num_epochs", "max_steps", "log_dir", "model_name", "log_frequency", "save_frequency",
    "save_start", "save_steps", "keep_states", "resume", "val_steps", "best_metric", "on_bad_sample", "check_data",
    "check_decode", "profile", "device", "eval_mono", "eval_stereo", "alignment", "protocol", "submission",
    "statistics", "make3d_interpolation",
    "eval_split", "disable_median_scaling", "pred_depth_scale_factor", "metric", "ext_disp_to_eval",
    "post_process", "save_pred_disps", "no_eval", "eval_out_dir", "csv", "json", "all",
    "report", "plots",
)  # fmt: skip


class Resumption:
    """Writes and reads the states of a run.

    Args:
        opt: the options.
        run: `run.folder.RunFolder`.
        folder: `run.states.StateFolder`.
        network: `model.DepthAndMotion`.
        optimisation: `optimisation.Optimisation`.
        kept: `kept_weights.KeptWeights`, which knows the best validation and the average.
        processes: `Processes`.
        device: of this process.
    """

    def __init__(self, opt, run, folder, network, optimisation, kept, processes, device):
        self.opt, self.run, self.folder, self.processes, self.device = opt, run, folder, processes, device
        self.network, self.optimisation, self.kept = network, optimisation, kept

    def is_asked(self):
        """Whether the run is to go on from a state; with --resume auto, as the first process finds one."""
        if self.opt.resume == "auto":
            return self.processes.from_first(bool(self.folder.paths()))
        return bool(self.opt.resume)

    def save(self, progress, data):
        """Write a state.

        Args:
            progress: [finished epochs, steps in this one, steps].
            data: `TrainingData`.
        """
        random_of_all = self.processes.gather(random_states(self.device))
        if self.processes.is_first:
            average = self.kept.average
            self.folder.save(progress[-1], {
                "identity": self._identity(data),
                "progress": progress,
                "best": self.kept.best,
                "networks": self.network.networks.state_dict(),
                "optimisation": self.optimisation.state_dict(),
                "bad_samples": data.bad_samples.count,
                "random": random_of_all,
                **({"average": average.state_dict()} if average else {}),
            })  # fmt: skip

    def resume(self, data):
        """Go on from the state that --resume names, or from the newest whole one; return its progress, as in `save`.

        Args:
            data: `TrainingData`.

        Raises:
            UserError: there is none, it is of another run, or its content makes no sense.
        """
        named, average = self.opt.resume, self.kept.average
        path, state = self.folder.newest() if named in ("newest", "auto") else (named, states.read(named))
        check_content(state, path)
        way_out = f"start a new run from its weights: --load_weights_folder {self.run.weights('best')}, no --resume"
        check_identity(self._identity(data), state["identity"], way_out)
        check_progress(state["progress"], data.steps_per_epoch, self.opt.num_epochs, path)
        with reporting_not_finite(self.run, self.processes):
            load_strictly(self.network.networks, state["networks"], path)
            self.optimisation.load_state_dict(state["optimisation"], path)
            if average:
                average.load_state_dict(state.get("average"), path)
        data.bad_samples.count = state["bad_samples"]
        self.kept.best = state["best"]
        restore_random(state["random"], self.processes.rank, self.device, path)
        epoch, _, step = state["progress"]
        log.info("resumed from %s: epoch %d, step %d", path, epoch, step)
        return state["progress"]

    def _identity(self, data):
        """What has to be equal in the run that resumes, as plain values."""
        facts = {
            "dilations": [list(stage) for stage in self.network.networks["encoder"].dilations],
            "processes": self.processes.count,
        }
        facts |= {f"{part} split": digest for part, (_, _, digest) in data.record().items()}
        if self.opt.pseudo_depth:
            facts["use of pseudo-labels"] = True
        return identity(self.opt, (*FREE_ON_RESUME, *unused(self.opt)), **facts)
