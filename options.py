"""Every option of training and evaluation: name, default and meaning declared once, with the rules between them.

Two groups stand in the rooms that they belong to: `losses.supervision_options` and `evaluation.evaluation_options`.
Free of torch. Options that take yes or no also stand bare: `--png`, `--png true` and `--png false` all work.
"""

import argparse
import math
import os

from evaluation import METRICS
from evaluation.evaluation_options import (
    SHARED_WITH_TRAINING,
    add_evaluation_options,
    evaluation_contradictions,
    turn_to_evaluation,
)
from losses.supervision_options import add_supervision_options, supervision_contradictions
from networks.model_table import LARGEST_IMAGE, MODELS, USUAL_MODEL
from system.command_line import Parser, positive, whole
from system.devices import NAMES as DEVICES
from system.errors import UserError, UserErrors
from system.parallel import default_workers
from training.recipes import RECIPES
from training.schedule import DEFAULT_LR

ROOT = os.path.dirname(os.path.abspath(__file__))
LARGEST_SIDE = 16384  # pixels of the network's input
MOST_WORKERS = 256
DATASETS = ("kitti", "kitti_odom", "kitti_depth", "frames")


def dilation_list(text):
    """Read dilations of the three stages, e.g. `1,2,3/1,2,3/1,2,3,2,4,6`."""
    try:
        stages = tuple(tuple(int(number) for number in stage.split(",")) for stage in text.split("/"))
    except ValueError:
        stages = ()
    if len(stages) != 3 or any(number < 1 for stage in stages for number in stage):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1,2,3/1,2,3/1,2,3,2,4,6")
    return stages


def add_model_options(group, from_weights=False):
    """Add what names a depth network and its device; with `from_weights` the model need not be said."""
    unsaid = "; without, what the weights are" if from_weights else ""
    group.add_argument("--model", default=None if from_weights else USUAL_MODEL, choices=list(MODELS),
                       help=f"which Lite-Mono model{unsaid}")  # fmt: skip
    group.add_argument("--dilations", type=dilation_list, metavar="D",
                       help="dilations of the three stages, such as 1,2,3/1,2,3/1,2,3,2,4,6, "
                            "instead of those of the weights or the model")  # fmt: skip
    Parser.flag(group, "no_cuda", help="stay on the CPU")
    group.add_argument("--device", help=f"device to compute on: {DEVICES}; by default a GPU where there is one")


def _data_options(parser):
    group = parser.add_argument_group("data")
    group.add_argument("--data_path", default=os.path.join(ROOT, "kitti_data"),
                       help="root of the data set; default: kitti_data beside options.py")  # fmt: skip
    group.add_argument("--dataset", default="kitti", choices=DATASETS, help="layout and ground truth of the data")
    group.add_argument("--split", default="eigen_zhou",
                       help="eigen_zhou, eigen_full, odom, benchmark, or a folder with *_files.txt")  # fmt: skip
    Parser.flag(group, "png", help="read .png images instead of .jpg")
    group.add_argument("--height", type=positive, default=192, help="input height, a multiple of 32")
    group.add_argument("--width", type=positive, default=640, help="input width, a multiple of 32")
    group.add_argument("--frame_ids", nargs="+", type=int, default=[0, -1, 1], help="frames to load, 0 first")
    group.add_argument("--frame_stride", type=positive, default=1, help="frames from one to the next of --frame_ids; "
                       "above 1 for --dataset frames alone")  # fmt: skip
    Parser.flag(group, "use_stereo", help="also warp the other camera of the pair")
    Parser.flag(group, "jitter_per_image", help="draw colour jitter for each image instead of once for an item")
    group.add_argument("--cache", metavar="DIR", help="keep frames decoded and resized here, or in memory: ram")
    group.add_argument("--num_workers", type=whole, default=default_workers(),
                       help="processes that load data; by default one for each core, at most 12")  # fmt: skip


def _model_options(parser):
    group = parser.add_argument_group("networks")
    add_model_options(group)
    group.add_argument("--drop_path", type=float, default=0.2, help="stochastic depth of the last encoder block")
    group.add_argument("--num_layers", type=int, default=18, choices=(18, 34, 50, 101, 152), help="pose ResNet depth")
    group.add_argument("--weights_init", default="pretrained", choices=("pretrained", "scratch"),
                       help="start of the pose ResNet: ImageNet or random")  # fmt: skip
    group.add_argument("--pose_model_type", default="separate_resnet", choices=("separate_resnet", "shared", "posecnn"),
                       help="network that predicts motion")  # fmt: skip
    group.add_argument("--pose_model_input", default="pairs", choices=("pairs", "all"), help="frames it sees at once")
    group.add_argument("--mypretrain", help="ImageNet weights of the depth encoder: a file or a published name")
    group.add_argument("--load_weights_folder", help="weights folder (or published name) to start from or to evaluate")
    group.add_argument("--models_to_load", nargs="+", default=["encoder", "depth", "pose_encoder", "pose"],
                       choices=("encoder", "depth", "pose_encoder", "pose", "predictive_mask"), metavar="NET",
                       help="networks taken from it: encoder depth pose_encoder pose predictive_mask")  # fmt: skip


def _objective_options(parser):
    group = parser.add_argument_group("objective")
    group.add_argument("--scales", nargs="+", type=int, default=[0, 1, 2], help="output scales in the loss, of 0 1 2")
    group.add_argument("--min_depth", type=float, default=0.1, help="smallest depth the network can predict")
    group.add_argument("--max_depth", type=float, default=100.0, help="largest depth the network can predict")
    group.add_argument("--disparity_smoothness", type=float, default=1e-3, help="weight of the smoothness term")
    Parser.flag(group, "v1_multiscale", help="compare images of each scale instead of full size")
    Parser.flag(group, "avg_reprojection", help="mean over source frames instead of minimum")
    Parser.flag(group, "disable_automasking", help="keep pixels that a still camera explains better")
    Parser.flag(group, "predictive_mask", help="predict a mask for each source; needs --disable_automasking")
    Parser.flag(group, "no_ssim", help="L1 alone as photometric error")


def _training_options(parser):
    group = parser.add_argument_group("training")
    group.add_argument("--recipe", choices=list(RECIPES), metavar="NAME",
                       help="a published recipe, which other flags override, or one of better_*, which have not been "
                            f"run at full size on KITTI here: {', '.join(RECIPES)}")  # fmt: skip
    Parser.flag(group, "print_recipe", help="print the options that the recipe stands for and stop")
    group.add_argument("--batch_size", type=positive, default=16, help="items a step and process")
    group.add_argument("--grad_accum", type=positive, default=1, help="batches added up for one optimiser step")
    group.add_argument("--num_epochs", type=positive, default=50, help="epochs")
    group.add_argument("--lr", nargs="+", type=float, default=list(DEFAULT_LR), metavar="LR",
                       help="six numbers: max min cycle of the depth networks, then of the pose networks")  # fmt: skip
    group.add_argument("--weight_decay", type=float, default=1e-2, help="of AdamW")
    group.add_argument("--scheduler_step_size", type=int, default=15, help="accepted for old command lines, unused")
    group.add_argument("--seed", type=whole, default=0, help="of weights, data order, augmentation and noise")
    Parser.flag(group, "deterministic", help="repeatable kernels on a GPU, at some cost in speed")
    group.add_argument("--amp", default="off", choices=("off", "bf16", "fp16"),
                       help="precision of the networks; geometry and loss stay in float32")  # fmt: skip
    Parser.flag(group, "compile", help="compile networks, loss and, on a GPU, augmentation with torch.compile")
    Parser.flag(group, "cuda_graph", help="on CUDA, record a whole step once and replay it")
    Parser.flag(group, "sync_bn", help="BatchNorm statistics over all processes")
    group.add_argument("--max_steps", type=positive, help="stop after this many steps, as if the run ended there")


def _logging_options(parser):
    group = parser.add_argument_group("logs, states and validation")
    group.add_argument("--log_dir", default="./tmp", help="where runs are kept")
    group.add_argument("--model_name", default="lite-mono", help="folder of this run under log_dir")
    group.add_argument("--log_frequency", type=positive, default=250, help="steps between TensorBoard entries")
    group.add_argument("--save_frequency", type=positive, default=1, help="epochs between weights folders")
    Parser.flag(group, "save_start", help="also write weights_start, the networks before the first step")
    group.add_argument("--save_steps", type=positive, help="also save a resumable state every so many steps")
    group.add_argument("--keep_states", type=positive, default=2, help="resumable states to keep")
    group.add_argument("--resume", nargs="?", const="newest", metavar="STATE",
                       help="continue this run from its newest complete state, or from the one named; "
                            "auto: continue if there is a state, else start")  # fmt: skip
    group.add_argument("--val_steps", type=positive, help="also validate every so many steps")
    group.add_argument("--best_metric", default="auto", choices=("auto", "loss", *METRICS),
                       help="what weights_best follows; auto: abs_rel, or loss without ground truth")  # fmt: skip
    group.add_argument("--on_bad_sample", default="stop", choices=("stop", "skip"), help="what a broken image does")
    Parser.flag(group, "check_data", help="verify data_path against the split and stop")
    group.add_argument("--check_decode", default="sample", choices=("none", "sample", "all"),
                       help="images that --check_data decodes")  # fmt: skip
    group.add_argument("--report", nargs="?", const=True, metavar="FILE",
                       help="write a page about the run at its end; without a name, its report.html")  # fmt: skip
    Parser.flag(group, "profile", default=True, help="say parameters and multiply-adds once")


ABOUT = {
    "train.py": "Train Lite-Mono on video of one camera, or of a stereo pair, without ground truth.",
    "evaluate_depth.py": "Measure the depth of weights, or of stored disparities, against ground truth.",
}


class LiteMonoOptions:
    """The options of train.py and evaluate_depth.py: both take all of them, and show those that do something there.

    `parser` is the argparse parser; `parse(argv=None)` returns the checked namespace.

    Args:
        prog: the command, as `--help` names it; train.py without.
    """

    def __init__(self, prog=None):
        self.parser = Parser(prog=prog, description=ABOUT.get(prog, ABOUT["train.py"]))
        for declare in (_data_options, _model_options, _objective_options, add_supervision_options, _training_options,
                        _logging_options):  # fmt: skip
            declare(self.parser)
        training = {action.dest for action in self.parser._actions}
        add_evaluation_options(self.parser)
        everything = {action.dest for action in self.parser._actions}
        self._evaluates = evaluates = prog == "evaluate_depth.py"
        hidden = training - set(SHARED_WITH_TRAINING) if evaluates else everything - training
        for action in self.parser._actions:
            action.help = argparse.SUPPRESS if action.dest in hidden else action.help
        if evaluates:
            turn_to_evaluation(self.parser)
        model = next(action for action in self.parser._actions if action.dest == "model")
        model.default = None  # the weights tell
        model.help += "; without, what the weights are" + ("" if evaluates else f", else {USUAL_MODEL}")

    def parse(self, argv=None):
        """Return the options as a namespace; `model` is None where weights are to tell it.

        Raises:
            UserError: an unknown flag, a value out of range, or flags that contradict each other (all at once).
        """
        recipe = self.parser.parse_known_args(argv)[0].recipe
        if recipe:
            self.parser.set_defaults(**RECIPES[recipe])
        options = self.parser.parse_args(argv)
        if options.model is None and not self._evaluates and not told_by_weights(options):
            options.model = USUAL_MODEL
        problems = [UserError(*problem) for problem in contradictions(options)]
        if problems:
            raise UserErrors(problems)
        self.parser.tell_repeated(argv)
        return options


def told_by_weights(opt):
    """Whether a training run takes its depth encoder from a weights folder or a state, which then tell its model."""
    return bool(opt.resume or (opt.load_weights_folder and "encoder" in opt.models_to_load))


def contradictions(opt):
    """Yield (what, which, fix) for every rule between options that `opt` breaks."""
    for name in ("height", "width"):
        if getattr(opt, name) % 32:
            value = getattr(opt, name)
            nearest = max(32, round(value / 32) * 32)
            yield f"--{name} is not a multiple of 32", value, f"use {nearest}, for example"
        elif getattr(opt, name) > LARGEST_SIDE:
            yield f"--{name} is larger than any image here", getattr(opt, name), f"use {LARGEST_SIDE} at most"
    if opt.height * opt.width > LARGEST_IMAGE:
        yield ("--height and --width are larger than weights are read for", f"{opt.width}x{opt.height}",
               f"height times width may be {LARGEST_IMAGE} pixels at most")  # fmt: skip
    if opt.num_workers > MOST_WORKERS:
        yield "--num_workers is beyond reason", opt.num_workers, f"use one for each core, {MOST_WORKERS} at most"
    if opt.seed >= 2**32:
        yield "--seed is too large", opt.seed, "use a number below 4294967296"
    if len(opt.lr) != 6:
        yield ("--lr takes six numbers", f"{len(opt.lr)} given",
               "give max min cycle for depth, then for pose: 0.0001 5e-6 31 0.0001 1e-5 31")  # fmt: skip
    else:
        for name, (high, low, cycle) in (("depth", opt.lr[:3]), ("pose", opt.lr[3:])):
            if not (0 <= low <= high < math.inf and 1 <= cycle < math.inf and cycle == int(cycle)):
                yield (f"--lr of {name} is out of range", f"{high} {low} {cycle}",
                       "max must be at least min, min at least 0, the cycle a whole number of epochs")  # fmt: skip
    if not (0 < opt.min_depth < opt.max_depth < math.inf):
        yield "--min_depth must lie between 0 and --max_depth", f"{opt.min_depth} {opt.max_depth}", "use 0.1 and 100"
    if not opt.scales or sorted(set(opt.scales)) != sorted(opt.scales) or not set(opt.scales) <= {0, 1, 2}:
        yield "--scales takes different numbers of 0 1 2", " ".join(map(str, opt.scales)), "use --scales 0 1 2"
    elif 0 not in opt.scales:
        yield "--scales leaves out 0, the scale that predicts", " ".join(map(str, opt.scales)), "add 0"
    if opt.frame_ids[:1] != [0] or len(set(opt.frame_ids)) != len(opt.frame_ids):
        yield "--frame_ids must start with 0 and name each frame once", " ".join(map(str, opt.frame_ids)), "use 0 -1 1"
    elif opt.frame_ids == [0] and not opt.use_stereo:
        yield "a single frame has nothing to be compared with", "--frame_ids 0", "add --use_stereo, or use 0 -1 1"
    if opt.frame_stride > 1 and opt.dataset != "frames":
        yield "--frame_stride is for --dataset frames", opt.frame_stride, "use --frame_ids 0 -2 2, for example"
    if opt.predictive_mask and not opt.disable_automasking:
        yield "a predictive mask replaces auto-masking", "--predictive_mask", "add --disable_automasking"
    if not 0 <= opt.drop_path < 1:
        yield "--drop_path is a probability below 1", opt.drop_path, "use 0.2"
    for name in ("weight_decay", "disparity_smoothness"):
        if not 0 <= getattr(opt, name) < math.inf:
            yield f"--{name} must be a number of at least 0", getattr(opt, name), "leave it out for the published value"
    folder = os.path.normpath(opt.model_name)
    if os.path.isabs(folder) or folder.split(os.sep)[0] in (os.curdir, os.pardir):
        yield "--model_name must name a folder below --log_dir", repr(opt.model_name), "give a name such as mytrain"
    if opt.mypretrain and opt.load_weights_folder and "encoder" in opt.models_to_load:
        yield ("two sources for the encoder's weights", "--mypretrain and --load_weights_folder",
               "drop one, or leave encoder out of --models_to_load")  # fmt: skip
    if opt.print_recipe and not opt.recipe:
        yield "there is no recipe to print", "--print_recipe", f"add --recipe with one of {', '.join(RECIPES)}"
    yield from supervision_contradictions(opt)
    yield from evaluation_contradictions(opt)
