"""Resumable states: everything a run needs to go on as if it had never stopped, in one verified file each.

A file is a line of magic, the SHA-256 of the rest, and the rest, written by torch.save from tensors and plain values. A
torn or foreign file fails the check and is passed over for the one before it.
"""

import hashlib
import io
import logging
import os
import pickle
import re

import torch

from system.errors import UserError
from system.files import refuse_unless_regular, replacing, sweep

log = logging.getLogger(__name__)

MAGIC = b"resumable training state 1\n"
_NAME = re.compile(r"state_(\d+)\.pt")


def write(path, state):
    """Write `state` (tensors and plain values), whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    with replacing(path) as file:
        file.write(MAGIC)
        file.write(hashlib.sha256(payload).digest())
        file.write(payload)


def read(path):
    """Return the state in a file, tensors on the CPU.

    Raises:
        UserError: it is missing, truncated, altered or of another kind.
    """
    refuse_unless_regular(path, "name a state_*.pt of this program")
    try:
        with open(path, "rb") as file:
            magic = file.read(len(MAGIC))
            if magic != MAGIC:
                raise UserError("not a resumable state", path, "name a state_*.pt of this program")
            digest, payload = file.read(32), file.read()
    except OSError as error:
        raise UserError("the state cannot be read", f"{path}: {error.strerror}",
                        "name another state, or start without --resume") from error  # fmt: skip
    if hashlib.sha256(payload).digest() != digest:
        raise UserError("the state is truncated or altered", path, "name an older state")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError("the state holds more than plain values", path, "name a state of this program") from error


class StateFolder:
    """The states of one run, `state_<step>.pt`, of which the newest `keep` stay."""

    def __init__(self, folder, keep):
        self.folder, self.keep = folder, keep

    def paths(self):
        """Return the states' paths, newest first."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        found = sorted(((int(match[1]), name) for name in names if (match := _NAME.fullmatch(name))), reverse=True)
        return [os.path.join(self.folder, name) for _, name in found]

    def save(self, step, state):
        """Write the state of a step; drop the oldest beyond `keep`, and later ones, left by another future."""
        path = os.path.join(self.folder, f"state_{step:08d}.pt")
        write(path, state)
        sweep(self.folder)
        paths = self.paths()
        place = paths.index(path)
        for gone in paths[:place] + paths[place + self.keep :]:
            os.unlink(gone)
        return path

    def newest(self):
        """Return (path, state) of the newest state that is whole; those that are not are named in the log.

        Raises:
            UserError: there is none.
        """
        for path in self.paths():
            try:
                return path, read(path)
            except UserError as problem:
                log.warning("passed over: %s", problem)
        raise UserError("no complete state to resume from", self.folder, "start the run without --resume")
