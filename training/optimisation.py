"""Two AdamW optimisers, for the depth networks and for the pose networks, behind one guarded step."""

import logging
import os

import torch

from checkpointing.files import read_state
from checkpointing.folders import existing_folder
from training.model import DEPTH_NETWORKS, POSE_NETWORKS
from training.schedule import learning_rate

log = logging.getLogger(__name__)

OVERFLOWS = 20  # fp16 steps in a row whose gradients may overflow while the scaler looks for its scale
GROUPS = {"adam": DEPTH_NETWORKS, "adam_pose": POSE_NETWORKS}  # by the names of the optimisers' files


class Optimisation:
    """Backward pass, gradient check and step.

    Args:
        models: name -> network.
        weight_decay: of AdamW.
        rates: the six numbers of --lr.
        scaler: `torch.amp.GradScaler`.

    Attributes:
        optimisers: "adam" and, where motion is predicted, "adam_pose".
    """

    def __init__(self, models, weight_decay, rates, scaler):
        self.models, self.scaler, self.overflows = models, scaler, 0
        self._numbers = {"adam": rates[:3], "adam_pose": rates[3:]}
        self.optimisers = {}
        for name, group in GROUPS.items():
            parameters = [p for key in group if key in models for p in models[key].parameters()]
            if parameters:
                self.optimisers[name] = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=weight_decay, fused=True)

    def set_epoch(self, epoch):
        """Set the learning rates of an epoch."""
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(epoch, *self._numbers[name])

    def rates(self):
        """Return {name: learning rate}."""
        return {name: optimiser.param_groups[0]["lr"] for name, optimiser in self.optimisers.items()}

    def zero_grad(self):
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)

    def backward(self, loss):
        self.scaler.scale(loss).backward()

    def step(self, refuse):
        """Take the step, unless a gradient is not finite: then call `refuse(norm)`, which raises.

        fp16's scaler skips such steps by itself and lowers its scale; that is left to it for a while.
        """
        for optimiser in self.optimisers.values():
            self.scaler.unscale_(optimiser)
        gradients = [p.grad for model in self.models.values() for p in model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        finite = norm - norm == 0
        self.overflows = 0 if finite else self.overflows + 1
        if not finite and (not self.scaler.is_enabled() or self.overflows > OVERFLOWS):
            refuse(norm)
        for optimiser in self.optimisers.values():
            self.scaler.step(optimiser)
        self.scaler.update()

    def state_dict(self):
        states = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {"optimisers": states, "scaler": self.scaler.state_dict(), "overflows": self.overflows}

    def load_state_dict(self, state):
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.overflows = state["overflows"]

    def load_moments(self, folder, loaded):
        """Go on with the moments of a weights folder, where their file is there and all their networks were loaded.

        Args:
            folder: the weights folder.
            loaded: names of the networks that were loaded from it.
        """
        for name, optimiser in self.optimisers.items():
            path = os.path.join(existing_folder(folder), f"{name}.pth")
            if not os.path.isfile(path) or not {key for key in GROUPS[name] if key in self.models} <= set(loaded):
                continue
            try:
                _load_moments(optimiser, read_state(path))
            except (ValueError, KeyError, TypeError) as error:  # of the published code, or of other networks
                log.warning("%s does not fit (%s): the optimiser starts afresh", path, error)
            else:
                log.info("loaded %s", path)


def _load_moments(optimiser, state):
    """Load moments, but keep the optimiser's own settings (rate, weight decay, kernel)."""
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, own in zip(optimiser.param_groups, settings, strict=True):
        group.update(own)
