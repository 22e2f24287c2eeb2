"""A pre-training state's content, looked at before a run goes on from it: a right checksum does not make it right."""

import math

import torch

from checkpointing.files import is_plain, load_strictly
from system.errors import NotFinite, UserError
from training.moments import Misfit, load_moments
from training.optimisation import checked_scaler
from training.state_content import is_count, wrong

ENTRIES = ("identity", "progress", "best", "history", "bad_samples", "random", "step", "overflows", "model",
           "optimiser", "scaler")  # fmt: skip


def check_content(state, best, path):
    """Raise UserError unless a state has the entries of a pre-training run, each of its kind.

    Args:
        state: what `states.read` returned.
        best: the best results of a run that begins, whose names the state's have to be.
        path: of its file.
    """
    if not isinstance(state, dict) or "training images" not in _named(state.get("identity")):
        raise UserError("not a state of a pre-training run", path, "name a state_*.pt of the output folder")
    lacking = [name for name in ENTRIES if name not in state]
    if lacking:
        raise wrong(path, f"no {lacking[0]}")
    for name in ("step", "overflows", "bad_samples"):
        if not is_count(state[name]):
            raise wrong(path, f"{name} {state[name]}")
    progress = state["progress"]
    if not isinstance(progress, list | tuple) or len(progress) != 2:
        raise wrong(path, f"progress {progress}")
    if _named(state["best"]).keys() != best.keys() or not all(map(_is_number, state["best"].values())):
        raise wrong(path, f"best {state['best']}")
    if not isinstance(state["history"], list) or not all(map(_is_record, state["history"])):
        raise wrong(path, "a history that is none")
    if not isinstance(state["random"], list) or not all(isinstance(each, dict) for each in state["random"]):
        raise wrong(path, "no random states")


def load_weights(network, weights, path):
    """Load a state's weights into a network, as strictly as a file's. Raises UserError where they do not fit."""
    if not _named(weights):
        raise wrong(path, "no weights")
    load_strictly(network, weights, path)


def load_optimiser(optimiser, stored, path):
    """Give an optimiser of any kind the state that it wrote; looked through first, since kernels do not look.

    Raises:
        UserError: it is of other parameters, or not finite.
    """
    try:
        if type(optimiser) is torch.optim.AdamW:
            load_moments(optimiser, stored, path)
            return
        _check_entries(optimiser, stored, path)
        optimiser.load_state_dict(stored)
    except (Misfit, LookupError, TypeError, ValueError, AttributeError) as error:
        raise wrong(path, f"an optimiser that does not fit: {error}") from error


def load_scaler(scaler, stored, path):
    """Give a gradient scaler its numbers; one that is off has none. Raises UserError."""
    try:
        if scaler.is_enabled():
            scaler.load_state_dict(checked_scaler(stored))
    except Misfit as error:
        raise wrong(path, error) from error


def _check_entries(optimiser, stored, path):
    """Raise Misfit or NotFinite unless every entry of every parameter is a number or has a shape that fits it."""
    groups, mine = stored["param_groups"], optimiser.param_groups
    names = [name for group in groups for name in group["params"]]
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in mine]:
        raise Misfit("groups of other parameters")
    if set(stored["state"]) - set(names):
        raise Misfit("moments of parameters that no group names")
    parameters = [parameter for group in mine for parameter in group["params"]]
    for name, parameter in zip(names, parameters, strict=True):
        for key, value in stored["state"].get(name, {}).items():
            if value is None or type(value) in (bool, int, float):
                continue
            if not is_plain(value, torch.float32) or not _fits(value.shape, parameter.shape):
                raise Misfit(f"{key} of parameter {name} has another shape or kind")
            if not torch.isfinite(value).all():
                fix = "resume from an older state"
                raise NotFinite("the optimiser's moments are not finite", path, f"{key} of parameter {name}", fix)


def _fits(shape, whole):
    """Whether a shape is that of a parameter, of one number, or of sums over some of the parameter's dimensions."""
    sizes = iter(whole)
    return shape == (1,) or all(size in sizes for size in shape)  # `in` goes on from where it found the last one


def _named(value):
    return value if isinstance(value, dict) and all(isinstance(key, str) for key in value) else {}


def _is_number(value):
    return type(value) in (int, float) and math.isfinite(value)


def _is_record(value):
    return bool(_named(value)) and all(type(each) in (int, float) for each in value.values())
