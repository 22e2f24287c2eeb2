"""Train the depth encoder to tell images apart (ImageNet), or evaluate a classifier; see --help."""

import os
import sys

sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the project, behind this folder

from pretraining_options import parse  # noqa: E402
from system.command_line import command  # noqa: E402


@command
def main(argv=None):
    """Parse the options and run the pre-training or the evaluation."""
    opt = parse(argv)
    from pretrainer import run

    return run(opt)


if __name__ == "__main__":
    sys.exit(main())
