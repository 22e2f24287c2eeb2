"""Where a run keeps its things, and what it writes down about itself.

    <log_dir>/<model_name>/models/weights_<epoch>/   networks and optimisers after an epoch
                           models/weights_best/      the epoch that validation chose
                           models/opt.json           the options
                           models/run.json           options, versions, revision, splits, device, command line
                           states/                   resumable states
                           not_finite.json           what was not finite when training stopped for it, and where
                           train/ val/               TensorBoard
"""

import contextlib
import os
import platform
import sys
from importlib import metadata

from system.errors import UserError
from system.files import write_json
from system.locks import Lock
from system.revision import revision

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless", "tensorboardX")


class RunFolder:
    """Paths of a run; `lock` keeps a second process out. `flag`: the option that names the folder."""

    def __init__(self, log_dir, name, flag="--model_name"):
        self.name, self.flag = name, flag
        self.path = os.path.abspath(os.path.join(os.path.expanduser(log_dir), name))
        self.models = os.path.join(self.path, "models")
        self.states = os.path.join(self.path, "states")
        self.not_finite = os.path.join(self.path, "not_finite.json")
        self._lock = Lock(f"{self.path}.lock")

    def weights(self, which):
        """Return the weights folder of an epoch, or of "best"."""
        return os.path.join(self.models, f"weights_{which}")

    def lock(self):
        """Claim the run for this process until it ends.

        Raises:
            UserError: another process holds it, or the folder cannot be written to.
        """
        if not self._lock.acquire():
            fix = f"wait for it, stop it, or choose another {self.flag}"
            raise UserError("another process is training in this folder", self.path, fix)

    def unlock(self):
        """Let go of the run."""
        self._lock.release()

    @contextlib.contextmanager
    def claimed(self):
        """Hold the run for the time of the block; yields whether it could be had, or was held already."""
        before = self._lock.is_ours
        try:
            yield before or self._lock.acquire()
        finally:
            if not before:
                self._lock.release()

    def set_aside(self):
        """Move an earlier run out of the way, to `<name>.1`, `.2`, ...; return where it is now, or None.

        Raises:
            UserError: the folder holds something else than a run.
        """
        held = os.listdir(self.path) if os.path.isdir(self.path) else []
        if held == [os.path.basename(self.not_finite)]:  # of weights that were refused: there was no run
            os.unlink(self.not_finite)
            return None
        if not held:
            return None
        if not {"models", "states", "train"} & set(held):
            raise UserError("the run's folder holds something else", self.path, f"choose another {self.flag}")
        number = 1
        while os.path.exists(f"{self.path}.{number}"):
            number += 1
        os.rename(self.path, f"{self.path}.{number}")
        return f"{self.path}.{number}"

    def record(self, opt, splits, device, processes):
        """Write models/opt.json and models/run.json. `splits`: part -> (name, lines, SHA-256)."""
        options = vars(opt)
        write_json(os.path.join(self.models, "opt.json"), options)
        write_json(
            os.path.join(self.models, "run.json"),
            {
                "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
                "options": options,
                "seed": opt.seed,
                "splits": {part: dict(zip(("name", "lines", "sha256"), each, strict=True))
                           for part, each in splits.items()},
                "device": device,
                "processes": processes,
                "python": platform.python_version(),
                "versions": {package: _version(package) for package in PACKAGES},
                "revision": revision(),
            },
        )


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
