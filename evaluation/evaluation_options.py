"""The options of evaluate_depth.py: names, defaults and meaning, and the rules between them. Free of torch."""

import math

from evaluation import ALIGNMENTS, MAKE3D_INTERPOLATIONS, PROTOCOLS
from system.command_line import Parser

# What evaluate_depth.py shows of the options of training besides the group of its own.
SHARED_WITH_TRAINING = (
    "help", "data_path", "dataset", "png", "num_workers", "model", "dilations", "no_cuda", "device",
    "load_weights_folder", "min_depth", "max_depth", "batch_size", "profile", "report",
)  # fmt: skip


def add_evaluation_options(parser):
    """Add the group to a parser of `options.LiteMonoOptions`."""
    group = parser.add_argument_group("evaluation")
    group.add_argument("--eval_split", default="eigen", help="eigen, eigen_benchmark, benchmark, or a "
                       "folder with test_files.txt")
    group.add_argument("--protocol", choices=PROTOCOLS,
                       help="crop and range: eigen (Garg's crop, 80 m), eigen_50m, eigen_benchmark (no crop), indoor "
                            "(no crop, 10 m), full (no crop, no limit); by default the data's own")  # fmt: skip
    Parser.flag(group, "eval_mono", help="scale each prediction to its ground truth, as --alignment says: the default")
    Parser.flag(group, "eval_stereo", help="weights of stereo pairs: no scaling to the ground truth, depth times 5.4")
    group.add_argument("--alignment", choices=ALIGNMENTS,
                       help="what makes predictions meet ground truth: the ratio of medians (median, the default), "
                            "the least-squares scale of depth, scale and shift of disparity, or none")  # fmt: skip
    Parser.flag(group, "disable_median_scaling", help="the same as --alignment none")
    group.add_argument("--pred_depth_scale_factor", type=float, default=1.0, help="multiplies predicted depth")
    Parser.flag(group, "metric", help="evaluate metres, by the factor that calibrate_scale.py stored with the weights; "
                                      "no scaling to the ground truth")  # fmt: skip
    group.add_argument("--ext_disp_to_eval", help=".npy of scaled disparities to evaluate instead of a network")
    Parser.flag(group, "post_process", help="merge the predictions for the image and its mirror image")
    Parser.flag(group, "save_pred_disps", help="write the scaled disparities as .npy")
    Parser.flag(group, "no_eval", help="predict (and save) without evaluating")
    group.add_argument("--eval_out_dir", help="where --save_pred_disps writes; default: the weights folder")
    group.add_argument("--make3d_interpolation", default="lanczos", choices=MAKE3D_INTERPOLATIONS,
                       help="how Make3D's images are resized for the network")  # fmt: skip
    Parser.flag(group, "statistics", help="intervals of the means, paired comparison of several weights, errors by "
                                          "distance, image row and nearness to depth edges")  # fmt: skip
    group.add_argument("--submission", metavar="DIR", help="with --eval_split benchmark: write the depth maps that "
                       "KITTI's benchmark takes")  # fmt: skip
    group.add_argument("--csv", metavar="FILE", help="write the metrics of every image")
    group.add_argument("--json", metavar="FILE", help="write the summary")
    group.add_argument("--plots", metavar="DIR", help="write charts and examples as PNG and PDF; implies --statistics")
    Parser.flag(group, "all", help="evaluate every weights_<epoch> below each folder, and mark the best")


def turn_to_evaluation(parser):
    """Change those of the options of training that mean something else where weights are evaluated."""
    actions = {action.dest: action for action in parser._actions}
    weights, dataset, report = actions["load_weights_folder"], actions["dataset"], actions["report"]
    weights.nargs, weights.metavar = "+", "WEIGHTS"
    weights.help = "weights folders or published names; several are compared in one table"
    dataset.choices = (*dataset.choices, "make3d")
    dataset.help = "kitti and what is laid out like it, frames (docs/own_data.md), or make3d"
    report.nargs, report.help = None, "write a page with tables, charts and pictures; implies --statistics"


def evaluation_contradictions(opt):
    """Yield (what, which, fix) for every rule that `opt` breaks."""
    if not 0 < opt.pred_depth_scale_factor < math.inf:
        yield "--pred_depth_scale_factor must be positive", opt.pred_depth_scale_factor, "use 1"
