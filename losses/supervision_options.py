"""The options of `losses.supervision`: names, defaults and meaning, and the rules between them. Free of torch."""

import math

KINDS = ("scale", "affine", "metric")
SCHEDULES = ("constant", "warmup", "decay")
WEIGHTS = ("pseudo_weight", "depth_supervision", "speed_weight")
# In use where the first of them is given; a run without them has none of them in what its resumption compares.
PSEUDO = ("pseudo_depth", "pseudo_kind", "pseudo_weight", "pseudo_schedule", "pseudo_ramp")
BETTER = {"pseudo_kind": "scale", "pseudo_weight": 0.1, "ema": 0.999}  # what the better_* recipes add
LARGEST_DECAY = 0.999999  # of averaged weights


def add_supervision_options(parser):
    """Add the group. Everything in it is off by default."""
    group = parser.add_argument_group("better depth (beyond the paper, all off by default)")
    group.add_argument(
        "--pseudo_depth", metavar="DIR", help="labels of another network: for each image a file of the same relative "
        "path that ends in .png (16 bits, value / 256), .npy or .npz; 0 is unknown",
    )  # fmt: skip
    group.add_argument("--pseudo_kind", default="scale", choices=KINDS, help="what the labels are: depth up to a "
                       "factor for each image, disparity up to a factor and a shift, or depth in metres")  # fmt: skip
    group.add_argument("--pseudo_weight", type=float, default=0.1, metavar="W", help="weight of the labels")
    group.add_argument("--pseudo_schedule", default="constant", choices=SCHEDULES,
                       help="the weight over the run: all of it at once, growing from 0, or falling to 0")  # fmt: skip
    group.add_argument("--pseudo_ramp", type=float, default=0.3, metavar="SHARE",
                       help="share of the run in which it grows (at the beginning) or falls (at the end)")  # fmt: skip
    group.add_argument("--depth_supervision", type=float, default=0.0, metavar="W",
                       help="weight of the depth that the data has: scans, improved maps, depth folders")  # fmt: skip
    group.add_argument("--speed_weight", type=float, default=0.0, metavar="W", help="weight of the distance driven, "
                       "from oxts/, poses.txt or speed.txt of a drive: depth then is in metres")  # fmt: skip
    group.add_argument("--ema", type=float, default=0.0, metavar="DECAY",
                       help="also keep a running average of the weights, 0.999 for example")  # fmt: skip


def supervision_contradictions(opt):
    """Yield (what, which, fix) for every rule that `opt` breaks."""
    for name in WEIGHTS:
        if not 0 <= getattr(opt, name) < math.inf:
            yield f"--{name} must be a number of at least 0", getattr(opt, name), "leave it out, or give 0.1"
    if (opt.recipe or "").startswith("better_") and not (opt.pseudo_depth or opt.print_recipe):
        yield ("the recipe needs labels", f"--recipe {opt.recipe}",
               "make them with make_pseudo_depth.py and give --pseudo_depth")  # fmt: skip
    if not 0 < opt.pseudo_ramp <= 1:
        yield "--pseudo_ramp is a share of the run", opt.pseudo_ramp, "give more than 0, at most 1"
    if not 0 <= opt.ema <= LARGEST_DECAY:
        yield "--ema is a decay below 1", opt.ema, "use 0.999"
    if opt.depth_supervision and opt.dataset == "kitti_odom":
        yield "this data set has no depth", "--depth_supervision with --dataset kitti_odom", "drop one"
    if opt.speed_weight > 0 and opt.frame_ids == [0]:
        yield "no motion is predicted", "--speed_weight with --frame_ids 0", "use --frame_ids 0 -1 1"
    if opt.speed_weight > 0 and opt.pose_model_type == "posecnn":
        yield ("PoseCNN's motion is in units of the mean depth", "--speed_weight with --pose_model_type posecnn",
               "use separate_resnet or shared")  # fmt: skip


def unused(opt):
    """Return the names of the group's options that do nothing in this run."""
    names = () if opt.pseudo_depth else PSEUDO
    return (*names, *(name for name in ("depth_supervision", "speed_weight", "ema") if not getattr(opt, name)))
