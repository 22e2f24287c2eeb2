"""The weights that a run starts from: a weights folder, or an encoder pre-trained on ImageNet."""

import logging
import os

from checkpointing.folders import existing_folder, load_networks
from checkpointing.imagenet import load_pretrained_encoder
from system.errors import UserError

log = logging.getLogger(__name__)


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
