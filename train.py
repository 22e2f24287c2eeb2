"""Train Lite-Mono on monocular or stereo video, without labels."""

import sys

from options import LiteMonoOptions
from system.command_line import command
from training.recipes import command_line


@command
def main(argv=None):
    """Parse the options and run the training; see --help."""
    opt = LiteMonoOptions("train.py").parse(argv)
    if opt.print_recipe:
        print(command_line(opt.recipe))
        return 0
    if opt.check_data:
        from datasets.check import check_data

        return check_data(opt)
    from trainer import run

    return run(opt)


if __name__ == "__main__":
    sys.exit(main())
