"""Predict depth for images, for folders of them, for videos, or for what a camera sees.

    python test_simple.py --load_weights_folder WEIGHTS --image_path IMAGE_OR_FOLDER_OR_VIDEO
    python test_simple.py --onnx MODEL.onnx --image_path IMAGE_OR_FOLDER_OR_VIDEO

Writes `<name>_disp.npy` (scaled disparity, network size) and `<name>_disp.jpeg` (its picture, the image's own size)
beside each image or into --output_dir; on request also depth at the image's own size and coloured points. Of a video
or a camera it writes `<name>_disp.mp4`.
"""

import sys

from inference.arguments import add_options, check
from inference.jobs import find_jobs
from options import add_model_options
from system.command_line import Parser, command


def parser():
    """Return the command line's parser."""
    made = Parser(prog="test_simple.py", description=__doc__.splitlines()[0])
    add_options(made)
    add_model_options(made, from_weights=True)
    return made


@command
def main(argv=None):
    """Run the command line."""
    opt = parser().parse_args(argv)
    check(opt)
    jobs = [] if opt.camera is not None else find_jobs(opt.image_path, opt.ext, opt.test, opt.output_dir)
    from inference.run import run

    run(opt, jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
