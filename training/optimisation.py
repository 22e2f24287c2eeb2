"""Two AdamW optimisers, for the depth networks and for the pose networks, behind one guarded step."""

import logging
import math
import os
import warnings

import torch

from checkpointing.files import read_state
from checkpointing.folders import existing_folder
from system.errors import UserError
from training.model import DEPTH_NETWORKS, POSE_NETWORKS
from training.moments import Misfit, load_moments
from training.schedule import learning_rate

log = logging.getLogger(__name__)

OVERFLOWS = 20  # fp16 steps in a row whose gradients may overflow while the scaler looks for its scale
GROUPS = {"adam": DEPTH_NETWORKS, "adam_pose": POSE_NETWORKS}  # by the names of the optimisers' files


class Optimisation:
    """Backward pass and guarded step.

    Args:
        models: name -> network.
        weight_decay: of AdamW.
        rates: the six numbers of --lr.
        scaler: `torch.amp.GradScaler`.
        recordable: whether steps are recorded as a CUDA graph; learning rates are then numbers on the device.

    Attributes:
        optimisers: "adam" and, where motion is predicted, "adam_pose".
    """

    def __init__(self, models, weight_decay, rates, scaler, recordable=False):
        self.models, self.scaler, self.overflows, self.recordable = models, scaler, 0, recordable
        self._numbers, self._rates = {"adam": rates[:3], "adam_pose": rates[3:]}, {}
        warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")  # warm-up
        self.optimisers = {}
        for name, group in GROUPS.items():
            parameters = [p for key in group if key in models for p in models[key].parameters()]
            if parameters:
                rate = torch.tensor(1e-4, device=parameters[0].device) if recordable else 1e-4
                self.optimisers[name] = torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay, fused=True,
                                                          capturable=recordable)  # fmt: skip

    def set_epoch(self, epoch):
        """Set the learning rates of an epoch."""
        for name, optimiser in self.optimisers.items():
            rate = self._rates[name] = learning_rate(epoch, *self._numbers[name])
            for group in optimiser.param_groups:
                group["lr"] = group["lr"].fill_(rate) if self.recordable else rate

    def rates(self):
        """Return {name: learning rate}."""
        return dict(self._rates)

    def zero_grad(self):
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)

    def backward(self, loss):
        self.scaler.scale(loss).backward()

    def step(self, numbers=()):
        """Take the step; where a gradient or one of `numbers` is not finite, weights and moments stay as they are.

        That is decided on the device, without waiting for it.

        Args:
            numbers: scalars, on the device.

        Returns:
            The norm of all gradients, a scalar on the device.
        """
        for optimiser in self.optimisers.values():
            self.scaler.unscale_(optimiser)
        gradients = [p.grad for model in self.models.values() for p in model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.scaler.is_enabled():  # which leaves out such steps by itself and lowers its scale
            for optimiser in self.optimisers.values():
                self.scaler.step(optimiser)
            self.scaler.update()
            return norm
        refused = (~torch.stack([norm, *numbers]).isfinite().all()).float()
        for optimiser in self.optimisers.values():
            optimiser.found_inf = refused  # as a scaler tells the fused kernel: it does nothing where this is 1
            optimiser.step()
        return norm

    def has_failed(self, norm):
        """Return whether gradients of this norm end the run; fp16's may overflow a while until their scale is found."""
        finite = math.isfinite(norm)
        self.overflows = 0 if finite else self.overflows + 1
        return not finite and (not self.scaler.is_enabled() or self.overflows > OVERFLOWS)

    def moments(self):
        """Return {name: an optimiser's state as files hold it}, whether or not steps are recorded."""
        states = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        for group in (group for state in states.values() for group in state["param_groups"]):
            group.update(lr=float(group["lr"]), capturable=False)
        return states

    def state_dict(self):
        return {"optimisers": self.moments(), "scaler": self.scaler.state_dict(), "overflows": self.overflows}

    def load_state_dict(self, state, path="the state"):
        """Go on from what `state_dict` returned.

        Raises:
            UserError: it is of other networks, or holds what no such state can hold.
        """
        try:
            for name, optimiser in self.optimisers.items():
                load_moments(optimiser, state["optimisers"][name], path)
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(checked_scaler(state["scaler"]))
            self.overflows = state["overflows"]
            if type(self.overflows) is not int or self.overflows < 0:
                raise Misfit(f"{self.overflows} overflows")
        except (Misfit, LookupError, TypeError) as error:
            raise UserError("the state's optimisers do not fit this run", f"{path}: {error}",
                            "resume from another state, or start a new run") from error  # fmt: skip

    def load_moments(self, folder, loaded):
        """Go on with the moments of a weights folder, where their file is there and all their networks were loaded.

        Moments that do not fit (those of the published code are laid out otherwise) are left out aloud.

        Args:
            folder: the weights folder.
            loaded: names of the networks that were loaded from it.

        Raises:
            UserError: a file is unreadable or its values are not finite.
        """
        for name, optimiser in self.optimisers.items():
            path = os.path.join(existing_folder(folder), f"{name}.pth")
            if not os.path.isfile(path) or not {key for key in GROUPS[name] if key in self.models} <= set(loaded):
                continue
            try:
                load_moments(optimiser, read_state(path), path)
            except Misfit as error:
                log.warning("%s does not fit: %s; the optimiser starts afresh (leave out optimiser files of other "
                            "networks and of the published code, whose layout is another)", path, error)  # fmt: skip
            else:
                log.info("loaded %s", path)


def numbers_of(scalars):
    """Return {name: number} of {name: scalar tensor}, by one copy from the device."""
    values = torch.stack([each.detach().float() for each in scalars.values()]).cpu().tolist()
    return dict(zip(scalars, values, strict=True))


SCALER_ENTRIES = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


def checked_scaler(state):
    """Return what a gradient scaler's state holds. Raises Misfit unless these are its numbers, finite and positive."""
    if not isinstance(state, dict) or set(state) != set(SCALER_ENTRIES):
        raise Misfit("no state of a gradient scaler")
    for key in SCALER_ENTRIES:
        value, least = state[key], 0 if key == "_growth_tracker" else 1e-30
        if type(value) not in (int, float) or not least <= value < math.inf:
            raise Misfit(f"the scaler's {key} is {value}")
    return state
