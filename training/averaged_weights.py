"""A running average of a network's weights (Polyak and Juditsky 1992), kept beside it and validated like it."""

import copy

import torch

from checkpointing.files import load_strictly
from system.errors import UserError
from training.best import no_best
from training.state_content import is_best

NEWEST, BEST = "ema", "ema_best"  # of its weights folders: weights_ema and weights_ema_best


class AveragedWeights:
    """An average of all parameters and of BatchNorm's statistics; what is no float is copied.

    After step n the average moves by 1 - min(decay, (1 + n) / (10 + n)) towards the network, so that it forgets
    the random weights of the first steps.

    Args:
        network: the module that is trained.
        decay: share of the average that stays in a step.

    Attributes:
        network: the average, a module of the same kind, in eval mode.
        best: {"metric", "value", "epoch"} of the best average so far.
    """

    def __init__(self, network, decay):
        self.decay, self.steps = decay, 0
        self.best = no_best()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network):
        """Take in the network after an optimiser step."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        mine, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floats], [theirs[name] for name in floats], share)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])

    @property
    def models(self):
        """Name -> averaged network."""
        return dict(self.network.networks.items())

    def state_dict(self):
        return {"networks": self.network.networks.state_dict(), "steps": self.steps, "best": self.best}

    def load_state_dict(self, state, path):
        """Go on from what `state_dict` returned.

        Raises:
            UserError: it is not that, or of other networks.
        """
        kinds = {"networks": dict, "steps": int, "best": dict}
        good = isinstance(state, dict) and all(isinstance(state.get(name), kind) for name, kind in kinds.items())
        if not (good and is_best(state["best"])):
            raise UserError("the state holds no average of the weights", path, "resume from another state")
        load_strictly(self.network.networks, state["networks"], path)
        self.steps, self.best = state["steps"], dict(state["best"])
