"""The weights that a run starts from: a weights folder, or an encoder pre-trained on ImageNet."""

import contextlib
import logging
import os

from checkpointing.folders import describe, existing_folder, load_networks, stored_dilations
from checkpointing.imagenet import load_pretrained_encoder
from networks.model_table import MODELS, USUAL_MODEL
from system.errors import UserError
from training.run.states import read

log = logging.getLogger(__name__)


def follow_weights(opt, states):
    """Set the model that was not given to that of the state to resume, or of the weights to start from.

    Args:
        opt: the options; a `model` that is given stays, and is checked where the weights are loaded.
        states: `StateFolder` of the run.

    Returns:
        The dilations that they store, three tuples, or None.

    Raises:
        UserError: the weights folder cannot be read, or is another model's.
    """
    model, dilations = _of_state(opt.resume, states) if opt.resume else (None, None)
    if model is None and opt.load_weights_folder and "encoder" in opt.models_to_load:
        found = describe(opt.load_weights_folder, opt.model)
        model, dilations = found.model, found.dilations
    opt.model = opt.model or model or USUAL_MODEL
    return dilations if opt.model == model else None


def _of_state(named, states):
    """Return (model, dilations) of the newest state that can be read, or of the one named; Nones without one."""
    for path in states.paths() if named in ("newest", "auto") else [named]:
        with contextlib.suppress(UserError, TypeError, KeyError):  # what is wrong is told where the run goes on
            known = read(path)["identity"]
            if known["model"] in MODELS:
                return known["model"], stored_dilations(known, path, known["model"])
    return None, None


def load_starting_weights(opt, models, optimisation):
    """Load what --load_weights_folder and --mypretrain name.

    Args:
        opt: the options.
        models: name -> network.
        optimisation: `Optimisation`, which takes over a folder's moments.

    Raises:
        UserError: a file is missing or does not fit.
    """
    if opt.load_weights_folder:
        folder = existing_folder(opt.load_weights_folder)
        wanted = {name: models[name] for name in opt.models_to_load if name in models}
        _check(folder, wanted, opt.models_to_load, models)
        load_networks(folder, wanted)
        log.info("loaded %s from %s", ", ".join(wanted), folder)
        optimisation.load_moments(folder, wanted)
    if opt.mypretrain:
        load_pretrained_encoder(models["encoder"], opt.mypretrain)


def _check(folder, wanted, named, models):
    if not wanted:
        which = f"--models_to_load {' '.join(named)}"
        raise UserError("no network of this run is to be loaded", which, f"name some of {' '.join(models)}")
    there = [name for name in wanted if os.path.isfile(os.path.join(folder, f"{name}.pth"))]
    if there and len(there) < len(wanted):
        lacking = " and ".join(name for name in wanted if name not in there)
        raise UserError(f"the weights folder lacks {lacking}", folder, f"add --models_to_load {' '.join(there)}")
