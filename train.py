"""Train Lite-Mono on monocular or stereo video, without labels."""

import sys

from errors import command
from fetching.published import pretrained_encoder, weights_folder
from options import LiteMonoOptions


@command
def main(argv=None):
    """Parse the options and run the training; see --help."""
    opt = LiteMonoOptions("train.py").parse(argv)
    if opt.print_recipe:
        from training.recipes import command_line

        print(command_line(opt.recipe))
        return 0
    if opt.check_data:
        from datasets.check import check_data

        return check_data(opt)
    opt.load_weights_folder = weights_folder(opt.load_weights_folder)
    opt.mypretrain = pretrained_encoder(opt.mypretrain)
    from trainer import Trainer
    from training import processes
    from training.data import find_split
    from training.interruption import Interrupted

    find_split(opt)  # before the pose network's weights are fetched
    try:
        Trainer(opt).train()
    except Interrupted as stop:
        print(stop)
        return stop.exit_code
    finally:
        processes.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
