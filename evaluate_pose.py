"""Evaluate camera motion: a pose network on KITTI odometry or on a folder of images, or a stored trajectory.

    python evaluate_pose.py --load_weights_folder WEIGHTS --data_path KITTI_ODOM --sequences 09 10
    python evaluate_pose.py --ext_poses PREDICTED.txt --gt_poses TRUE.txt --json errors.json
"""

import argparse
import os
import sys

from networks.model_table import MODELS
from system.command_line import Parser, command, positive, whole
from system.devices import NAMES as DEVICES

ROOT = os.path.dirname(os.path.abspath(__file__))


def parser():
    """Return the command line's parser."""
    made = Parser(prog="evaluate_pose.py", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--load_weights_folder", metavar="DIR", help="holds pose.pth, and pose_encoder.pth or encoder.pth")
    add("--data_path", default=os.path.join(ROOT, "kitti_data"), metavar="DIR", help="holds sequences/ and poses/")
    add("--sequences", nargs="+", type=sequence, default=[9, 10], metavar="N", help="those to evaluate: 09, or odom_9")
    add("--eval_split", nargs="+", type=sequence, dest="sequences", metavar="N", default=argparse.SUPPRESS,
        help="the same, by Monodepth2's name")  # fmt: skip
    add("--images", metavar="DIR", help="a folder of images instead of sequences")
    add("--gt_poses", metavar="FILE", help="true poses of --images or --ext_poses, a KITTI pose file")
    add("--ext_poses", metavar="FILE", help="evaluate these, not a network: a KITTI pose file, or motions as .npy")
    add("--lengths", nargs="+", type=metres, default=[float(100 * each) for each in range(1, 9)], metavar="M",
        help="segments behind t_rel and r_rel, metres")  # fmt: skip
    Parser.flag(made, "metric", help="take t_rel in the prediction's own scale instead of the Sim(3)-aligned one")
    add("--json", metavar="FILE", help="write the errors")
    add("--out_dir", metavar="DIR", help="write <sequence>.txt, a KITTI pose file, and <sequence>.png, the plot")
    add("--model", choices=list(MODELS), help="which Lite-Mono model; default: as the weights tell")
    add("--height", type=positive, help="of the network's input; default: as the weights say, else 192")
    add("--width", type=positive, help="of the network's input; default: as the weights say, else 640")
    Parser.flag(made, "png", help="read .png images instead of .jpg")
    Parser.flag(made, "no_cuda", help="stay on the CPU")
    add("--device", help=f"device to compute on: {DEVICES}; by default a GPU where there is one")
    add("--batch_size", type=positive, default=16, help="motions at once")
    add("--num_workers", type=whole, default=4, help="threads that read images")
    return made


def sequence(text):
    """Read the number of an odometry sequence: 9, 09 or odom_9."""
    number = text.removeprefix("odom_")
    if not (number.isascii() and number.isdigit() and int(number) <= 21):
        raise argparse.ArgumentTypeError(f"{text!r} is no odometry sequence, 00 to 21")
    return int(number)


def metres(text):
    """Read a positive length."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive length")
    return value


@command
def main(argv=None):
    """Run the command line."""
    options = parser().parse_args(argv)
    from evaluation import odometry_run

    evaluations = odometry_run.evaluate(options)
    if options.json:
        odometry_run.write_json(options.json, evaluations)
    return 0


if __name__ == "__main__":
    sys.exit(main())
