"""A run's log at Weights and Biases, where it is asked for."""

from system.errors import UserError


class WandbLog:
    """One run there.

    Args:
        opt: the namespace of `pretraining_options.parse`.
        folder: the run's own, where the package keeps its files.

    Raises:
        UserError: the package is missing, or the service cannot be used.
    """

    def __init__(self, opt, folder):
        try:
            import wandb
        except ImportError as error:
            fix = "pip install -r requirements-wandb.txt, or drop the flag"
            raise UserError("the package wandb is missing", "--enable_wandb", fix) from error
        self._package = wandb
        try:
            self._run = wandb.init(project=opt.project, config=vars(opt), dir=folder)
        except Exception as error:
            fix = "log in with `wandb login`, or set WANDB_MODE=offline"
            raise UserError("Weights and Biases cannot be used", f"--enable_wandb: {error}", fix) from error

    def write(self, values, step):
        """Write {name: number} of an optimiser step."""
        self._run.log(values, step=step)

    def upload(self, folder):
        """Upload a folder as the run's artifact, "<run>_model"."""
        artifact = self._package.Artifact(f"{self._run.id}_model", type="model")
        artifact.add_dir(folder)
        self._run.log_artifact(artifact, aliases=["latest", "best"])
