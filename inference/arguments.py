"""The options of test_simple.py and the rules between them. Free of torch."""

from system.command_line import Parser, positive, positive_number, whole
from system.errors import UserError, UserErrors

LAYOUTS = ("side_by_side", "stacked", "depth", "overlay")
PRECISION_OF = {"bf16": "bfloat16", "fp16": "float16"}
FOR_IMAGES = ("save_depth", "save_depth_png", "point_cloud")


def add_options(made):
    """Add all options but those of the model and its device to a parser."""
    given = made.add_mutually_exclusive_group(required=True)
    given.add_argument("--image_path", nargs="+", metavar="PATH", help="images, folders, patterns such as "
                       "'frames/*.png', videos, or with --test list files")  # fmt: skip
    given.add_argument("--camera", type=whole, metavar="N", help="predict what this camera sees; 0 is the first")
    weights = made.add_mutually_exclusive_group(required=True)
    weights.add_argument("--load_weights_folder", metavar="WEIGHTS",
                      help="folder that holds encoder.pth and depth.pth, or a published name")  # fmt: skip
    weights.add_argument("--onnx", metavar="FILE", help="predict with a file of export_onnx.py, without torch")
    made.add_argument("--ext", help="ending of the images to take from a folder; without, jpg, or all if it has none")
    Parser.flag(made, "test", help="image_path is a text file that names one image a line")
    made.add_argument("--output_dir", metavar="DIR", help="where to write; without, beside each image")
    made.add_argument("--pred_depth_scale_factor", type=positive_number, default=1.0, metavar="SCALE",
                      help="multiplies the depth that is written: metres to one unit of the network's")  # fmt: skip
    Parser.flag(made, "metric", help="predict metres, by the factor that calibrate_scale.py stored with the weights")
    made.add_argument("--batch_size", type=positive, default=1, help="images that go through the network together")
    made.add_argument("--amp", default="off", choices=["off", *PRECISION_OF], help="half precision, for GPUs")
    group = made.add_argument_group("pictures")
    group.add_argument("--colour_map", default="magma", metavar="NAME", help="one of matplotlib's colour maps")
    group.add_argument("--limits", nargs=2, type=positive_number, metavar=("NEAR", "FAR"),
                       help="depths at the ends of the colour map, and of point clouds; else each image's")  # fmt: skip
    group = made.add_argument_group("depth of images")
    Parser.flag(group, "save_depth", help="also write depth as float32 .npy, at the image's own size")
    Parser.flag(group, "save_depth_png", help="also write depth as 16-bit PNG, times 256, at the image's own size")
    Parser.flag(group, "point_cloud", help="also write coloured points as binary .ply; one file with --poses")
    group.add_argument("--poses", metavar="FILE", help="KITTI pose file of the images, which are then one sequence")
    group.add_argument("--cloud_step", type=positive, metavar="N", help="points of each Nth row and column; 1, or 4 "
                       "with --poses, when not given")  # fmt: skip
    group.add_argument("--camera_file", metavar="FILE", help="intrinsics, in any of the forms of prepare_frames.py")
    group.add_argument("--fov", type=positive_number, metavar="DEG", help="horizontal field of view instead, roughly")
    group = made.add_argument_group("videos")
    group.add_argument("--layout", default=LAYOUTS[0], choices=LAYOUTS, help="frame and depth, depth alone, or overlay")
    Parser.flag(group, "display", help="also show the pictures in a window; q ends")


def check(opt):
    """Raise `UserError` for options that contradict each other or are out of range."""
    problems = [UserError(*problem) for problem in _contradictions(opt)]
    if problems:
        raise UserErrors(problems)


def _contradictions(opt):
    if opt.limits and not opt.limits[0] < opt.limits[1]:
        yield "--limits are not near and far", f"{opt.limits[0]:g} {opt.limits[1]:g}", "give the nearer depth first"
    if opt.metric and opt.onnx:
        yield ("an exported file holds no metric scale", "--metric with --onnx",
               "give --pred_depth_scale_factor, the factor in the weights' metric_scale.json")  # fmt: skip
    if opt.amp != "off" and opt.onnx:
        yield ("an exported file has the precision that it was written in", "--amp with --onnx",
               "drop --amp, or export the file in float16")  # fmt: skip
    if opt.metric and opt.pred_depth_scale_factor != 1:
        yield "two scales", "--metric and --pred_depth_scale_factor", "drop one"
    for name in ("poses", "cloud_step", "camera_file", "fov"):
        if getattr(opt, name) and not opt.point_cloud:
            yield f"--{name} is for point clouds", f"--{name} without --point_cloud", "add --point_cloud, or drop it"
    if opt.fov and (opt.camera_file or opt.fov >= 170):
        yield "--fov is a stand-in for --camera_file, below 170", f"{opt.fov:g}", "give one of them"
    if opt.camera is not None:
        for name in (*FOR_IMAGES, "test", "ext"):
            if getattr(opt, name):
                yield f"--{name} is for images", f"--{name} with --camera", "drop one"
