"""Find how many metres one unit of a network's depth is, from something known, and store it with the weights.

    python calibrate_scale.py --load_weights_folder WEIGHTS --image_path FRAMES --camera_file camera.json \\
        --camera_height 1.5
    python test_simple.py --load_weights_folder WEIGHTS --image_path FRAMES --metric

Known may be the camera's height above a flat road, the distance of some pixels, maps of true depth, or the baseline of
stereo pairs. It writes metric_scale.json into the weights folder, which --metric reads.
"""

import math
import sys

from options import add_model_options
from system.command_line import Parser, command, positive_number
from system.errors import UserError


def parser():
    """Return the command line's parser."""
    made = Parser(prog="calibrate_scale.py", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--load_weights_folder", required=True, metavar="WEIGHTS", help="weights folder, or a published name")
    add("--image_path", nargs="+", metavar="PATH", help="images of the camera, or folders of them")
    add("--ext", help="ending of the images to take from a folder; without, jpg, or all if it has none")
    known = made.add_argument_group("what is known: one of these")
    add = known.add_argument
    add("--camera_height", type=positive_number, metavar="M", help="metres from a flat road up to the camera")
    add("--camera_pitch", type=float, metavar="DEG", help="with --camera_height: by how many degrees the camera looks "
        "down, where that is more than a few")  # fmt: skip
    add("--pixel", nargs=3, type=float, action="append", metavar=("X", "Y", "M"),
        help="a pixel of the one image, and the metres from the camera to what it shows; may be repeated")  # fmt: skip
    add("--ground_truth", metavar="PATH", help="true depth: a folder of 16-bit PNG (metres times 256) or .npz maps "
        "named as the images, or a gt_depths.npz in their order")  # fmt: skip
    add("--baseline", type=positive_number, metavar="M", help="metres between the cameras of a rectified stereo pair; "
        "weights trained with --use_stereo on that rig need no images")  # fmt: skip
    made.add_argument("--right_path", nargs="+", metavar="PATH", help="with --baseline: the right images")
    Parser.flag(made, "along_axis", help="metres of --pixel are depth, not the way from the camera to the point")
    made.add_argument("--camera_file", metavar="FILE", help="intrinsics, in any of the forms of prepare_frames.py")
    made.add_argument("--fov", type=positive_number, metavar="DEG", help="horizontal field of view instead, roughly")
    add_model_options(made, from_weights=True)
    return made


def check(opt):
    """Raise `UserError` for options that contradict each other or are out of range."""
    ways = [name for name in ("camera_height", "pixel", "ground_truth", "baseline") if getattr(opt, name) is not None]
    if len(ways) != 1:
        which = " and ".join(f"--{name}" for name in ways) or "nothing is known"
        raise UserError("one known thing is needed", which, "--camera_height, --pixel, --ground_truth or --baseline")
    if opt.right_path and not opt.baseline:
        raise UserError("--right_path goes with --baseline", f"--right_path with --{ways[0]}", "leave it out")
    if opt.camera_pitch is not None and not (opt.camera_height and -60 <= opt.camera_pitch <= 60):
        raise UserError("--camera_pitch goes with --camera_height, up to 60 degrees", f"{opt.camera_pitch:g}",
                        "leave it out")  # fmt: skip
    if opt.fov and (opt.camera_file or opt.fov >= 170):
        raise UserError("--fov is a stand-in for --camera_file, below 170", f"{opt.fov:g}", "give one of them")
    for x, y, metres in opt.pixel or ():
        if not (all(map(math.isfinite, (x, y))) and 1e-3 <= metres <= 1e6):
            raise UserError("a pixel without a distance", f"--pixel {x:g} {y:g} {metres:g}",
                            "give metres from 0.001 to 1e6")  # fmt: skip


@command
def main(argv=None):
    """Run the command line."""
    opt = parser().parse_args(argv)
    check(opt)
    from evaluation.calibration import calibrate, told

    found, path, count = calibrate(opt)
    print("\n".join((*told(found, count), f"written: {path}; --metric uses it")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
