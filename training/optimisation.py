"""Two AdamW optimisers, for the depth networks and for the pose networks, behind one guarded step."""

import logging
import math
import os

import torch

from checkpointing.files import read_state
from checkpointing.folders import existing_folder
from system.errors import UserError
from training.model import DEPTH_NETWORKS, POSE_NETWORKS
from training.schedule import learning_rate

log = logging.getLogger(__name__)

OVERFLOWS = 20  # fp16 steps in a row whose gradients may overflow while the scaler looks for its scale
MOMENTS = ("exp_avg", "exp_avg_sq")
MISFITS = (ValueError, KeyError, TypeError, AttributeError)  # what moments of another kind or size give
GROUPS = {"adam": DEPTH_NETWORKS, "adam_pose": POSE_NETWORKS}  # by the names of the optimisers' files


class Optimisation:
    """Backward pass and guarded step.

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

    def state_dict(self):
        states = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {"optimisers": states, "scaler": self.scaler.state_dict(), "overflows": self.overflows}

    def load_state_dict(self, state):
        """Go on from what `state_dict` returned.

        Raises:
            UserError: it belongs to other networks.
        """
        for name, optimiser in self.optimisers.items():
            try:
                _load_moments(optimiser, state["optimisers"][name])
            except MISFITS as error:
                raise UserError("the state's moments do not fit its networks", f"{name}: {error}",
                                "resume from another state") from error  # fmt: skip
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
            except MISFITS as error:  # of the published code, or of other networks
                log.warning("%s does not fit (%s): the optimiser starts afresh", path, error)
            else:
                log.info("loaded %s", path)


def _load_moments(optimiser, state):
    """Load moments, but keep the optimiser's own settings (rate, weight decay, kernel)."""
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    groups = [group | settings for group, settings in zip(state["param_groups"], own, strict=True)]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    numbers = [number for group in groups for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        if number in state["state"]:
            _check_moments(state["state"][number], parameter)
    optimiser.load_state_dict({"state": state["state"], "param_groups": groups})
    for parameter, moments in optimiser.state.items():
        for name in MOMENTS:  # in the parameter's memory layout, which the fused kernel takes as given
            moments[name] = torch.empty_like(parameter).copy_(moments[name])


def _check_moments(moments, parameter):
    """Raise ValueError unless the entries of one parameter are those of AdamW."""
    if set(moments) != {"step", *MOMENTS}:
        raise ValueError(f"entries {', '.join(map(str, moments))} instead of step, {', '.join(MOMENTS)}")
    for name, shape in (("step", torch.Size()), *((name, parameter.shape) for name in MOMENTS)):
        value = moments[name] if isinstance(moments[name], torch.Tensor) else torch.tensor(float(moments[name]))
        if value.shape != shape or not value.is_floating_point() or value.layout is not torch.strided:
            raise ValueError(f"{name} of shape {tuple(value.shape)} and {value.dtype} for {tuple(shape)}")


def numbers_of(scalars):
    """Return {name: number} of {name: scalar tensor}, by one copy from the device."""
    values = torch.stack([each.detach().float() for each in scalars.values()]).cpu().tolist()
    return dict(zip(scalars, values, strict=True))
