"""Turn videos and folders of images of any camera into sequences and lists to train on.

    python prepare_frames.py drive.mp4 walk.mov --camera camera.json --out data

Still stretches are dropped, sequences end at scene changes; docs/own_data.md tells the whole way. A run that was
broken off goes on with the first video that is not done.
"""

import sys

from system.command_line import Parser, command, positive
from system.errors import UserError


def parser():
    """Return the command line's parser."""
    made = Parser(prog="prepare_frames.py", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="videos, and folders of images")
    add("--out", required=True, metavar="DATA", help="folder to write to: --data_path and --split of train.py")
    add("--camera", metavar="FILE", help="intrinsics of the frames as they are shown: JSON, 3x3 text, ROS or OpenCV "
        "YAML, COLMAP cameras.txt, KITTI calibration; distortion is removed")  # fmt: skip
    add("--fov", type=float, metavar="DEG", help="horizontal field of view, a rough stand-in for --camera")
    add("--fps", type=float, help="frames a second taken from videos; 10 when neither this nor --every is given")
    add("--every", type=positive, metavar="N", help="take each Nth frame instead, of videos and folders")
    add("--crop", nargs=4, type=int, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"), help="keep this part of the frames")
    add("--height", type=positive, default=384, help="scale higher frames down to this height")
    add("--min_motion", type=float, default=1.0, help="drop frames that moved less: median optical flow since the last "
        "frame that was kept, in pixels of an image 640 wide")  # fmt: skip
    add("--max_motion", type=float, default=80.0, help="begin a new sequence where they moved more")
    add("--scene_change", type=float, default=0.45, metavar="LIKENESS",
        help="begin a new sequence where frames are less alike, 0 to 1")  # fmt: skip
    add("--min_frames", type=positive, default=3, metavar="N", help="drop shorter sequences")
    add("--frame_ids", nargs="+", type=int, default=[0, -1, 1], metavar="N", help="as in train.py")
    add("--frame_stride", type=positive, default=1, metavar="N", help="as in train.py; the lists keep that much apart")
    add("--val_share", type=float, default=0.1, metavar="SHARE", help="of the frames, for validation")
    add("--test_share", type=float, default=0.1, metavar="SHARE", help="of the frames, for tests")
    add("--num_workers", type=positive, metavar="N", help="threads; one per core when not given")
    return made


def check(options):
    """Raise `UserError` for options that contradict each other or are out of range."""
    if (options.camera is None) == (options.fov is None):
        which = "--camera and --fov" if options.camera else "neither --camera nor --fov"
        raise UserError("one of --camera and --fov is needed", which, "--camera FILE; roughly, --fov 65 for a phone")
    if options.fps and options.every:
        raise UserError("contradictory options", "--fps with --every", "leave one of them out")
    ranges = {"fov": (1, 170), "fps": (1e-3, 1e4), "height": (32, 10000), "min_motion": (0, 1e4),
              "max_motion": (0, 1e4), "scene_change": (-1, 1), "val_share": (0, 0.9),
              "test_share": (0, 0.9)}  # fmt: skip
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name} is out of range", value, f"give {low:g} to {high:g}")
    if options.val_share + options.test_share >= 1:
        which = f"--val_share {options.val_share:g} --test_share {options.test_share:g}"
        raise UserError("nothing is left to train on", which, "give shares that sum up to less than 1")
    if options.crop and (min(options.crop[:2]) < 0 or min(options.crop[2:]) < 32):
        raise UserError("--crop is out of range", options.crop, "give left, top, and a width and height from 32")


@command
def main(argv=None):
    """Prepare the inputs; see the module's docstring."""
    options = parser().parse_args(argv)
    check(options)
    from datasets.frames_preparation.run import run

    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
