"""The moments of AdamW as files hold them: compared with the parameters before an optimiser takes them over."""

import torch

from checkpointing.files import is_plain
from system.errors import NotFinite, UserError

MOMENTS = ("exp_avg", "exp_avg_sq")


class Misfit(ValueError):
    """Moments of other parameters, or of another optimiser."""


def load_moments(optimiser, stored, path):
    """Give an AdamW the moments of a file; its own settings (rate, weight decay, kernel) stay.

    Args:
        optimiser: `torch.optim.AdamW`.
        stored: what the file holds, as the optimiser's `state_dict` writes it.
        path: of the file.

    Raises:
        Misfit: keys, shapes or kinds are not those of the optimiser's parameters.
        UserError: moments that are not finite.
    """
    groups = _checked_groups(optimiser, stored)
    state, names = stored["state"], [name for group in groups for name in group["params"]]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    foreign = state.keys() - set(names)
    if foreign:
        raise Misfit(f"moments of parameter {min(map(str, foreign))}, which no group names")
    for name, parameter in zip(names, parameters, strict=True):
        if name in state:
            _check_entries(name, state[name], parameter, path)
    # With the optimiser's own settings torch puts `step` where its kernel wants it: the fused one on the GPU.
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    for parameter, entries in optimiser.state.items():
        for key in MOMENTS:  # in the parameter's memory layout, which the fused kernel takes for granted
            entries[key] = torch.empty_like(parameter).copy_(entries[key])


def _checked_groups(optimiser, stored):
    """Return the optimiser's groups with the stored names of their parameters."""
    if not isinstance(stored, dict) or not isinstance(stored.get("state"), dict):
        raise Misfit("no state of an optimiser")
    groups = stored.get("param_groups")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise Misfit("no groups of parameters")
    names = [group.get("params") for group in groups]
    if not all(isinstance(each, list) and all(type(name) is int for name in each) for each in names):
        raise Misfit("groups that name no parameters")
    counts, wanted = [len(each) for each in names], [len(group["params"]) for group in optimiser.param_groups]
    if counts != wanted:
        raise Misfit(f"{sum(counts)} parameters in {len(counts)} groups instead of {sum(wanted)} in {len(wanted)}")
    if len({name for each in names for name in each}) != sum(counts):
        raise Misfit("groups that name a parameter twice")
    return [own | {"params": each} for own, each in zip(optimiser.param_groups, names, strict=True)]


def _check_entries(name, entries, parameter, path):
    if not isinstance(entries, dict) or set(entries) != {"step", *MOMENTS}:
        found = ", ".join(sorted(map(str, entries))) if isinstance(entries, dict) else type(entries).__name__
        raise Misfit(f"parameter {name} has {found or 'nothing'} instead of step, {', '.join(MOMENTS)}")
    for key in ("step", *MOMENTS):
        value = entries[key]
        if key == "step" and type(value) in (int, float):
            value = torch.tensor(float(value))
        shape = torch.Size() if key == "step" else parameter.shape
        if not is_plain(value, torch.float32) or value.shape != shape:
            found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise Misfit(f"{key} of parameter {name} is {found}, not a float tensor {tuple(shape)}")
        place, fix = f"{key} of parameter {name}", "take another copy, or remove the file to start with fresh moments"
        if not torch.isfinite(value.to(parameter.dtype)).all():
            raise NotFinite("the optimiser's moments are not finite", path, place, fix)
        if key != "exp_avg" and (value < 0).any():
            raise UserError("the optimiser's moments are negative where they cannot be", f"{path}: {place}", fix)
