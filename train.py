"""Train Lite-Mono on monocular or stereo video, without labels."""

import sys

from checkpointing.published import pretrained_encoder, weights_folder
from options import LiteMonoOptions
from system.command_line import command


@command
def main(argv=None):
    """Parse the options and run the training; see --help."""
    opt = LiteMonoOptions("train.py").parse(argv)
    if opt.print_recipe:
        from options import command_line

        print(command_line(opt.recipe))
        return 0
    if opt.check_data:
        from datasets.check import check_data

        return check_data(opt)
    if opt.report:
        from reports.after_training import check

        check(opt)
    opt.load_weights_folder = weights_folder(opt.load_weights_folder)
    opt.mypretrain = pretrained_encoder(opt.mypretrain)
    from system import distributed
    from trainer import Trainer
    from training.data import find_split
    from training.run.failures import one_line
    from training.run.interruption import Interrupted

    find_split(opt)  # before the pose network's weights are fetched
    try:
        with one_line():
            trainer = Trainer(opt)
            trainer.train()
    except Interrupted as stop:
        print(stop)
        return stop.exit_code
    finally:
        distributed.stop()
    if opt.report and trainer.processes.is_first:
        from reports.after_training import write

        write(opt, trainer.run.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
