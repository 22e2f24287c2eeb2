"""Every option of ImageNet pre-training: name, default and meaning, and the rules between them. Free of torch."""

from networks.model_table import MODELS
from system.command_line import Parser, positive, whole
from system.errors import UserError, UserErrors


def make_parser():
    """Return the parser of main.py."""
    parser = Parser(prog="lite-mono-pretrain-code/main.py", description="ImageNet pre-training of the depth encoder.")
    for declare in (_model_options, _training_options, _augmentation_options, _data_options, _run_options):
        declare(parser)
    return parser


def parse(argv=None):
    """Return the options as a namespace.

    Raises:
        UserError: an unknown flag, a value out of range, or flags that contradict each other (all at once).
    """
    opt = make_parser().parse_args(argv)
    problems = [UserError(*problem) for problem in contradictions(opt)]
    if problems:
        raise UserErrors(problems)
    return opt


def _model_options(parser):
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="lite-mono", choices=list(MODELS), help="which Lite-Mono encoder")
    group.add_argument("--nb_classes", type=positive, default=1000, help="classes to tell apart")
    group.add_argument("--drop_path", type=float, default=0.0, help="stochastic depth of the last encoder block")
    group.add_argument("--classifier_dropout", type=float, default=0.0, help="dropout before the classifier")
    group.add_argument(
        "--layer_scale_init_value", type=float, default=1e-5, help="initial scale of the blocks' branches"
    )
    group.add_argument("--input_size", type=positive, default=256, help="image size in pixels, a multiple of 32")
    Parser.flag(group, "model_ema", help="keep an exponential moving average of the weights")
    group.add_argument("--model_ema_decay", type=float, default=0.9995, help="its decay at each optimiser step")
    Parser.flag(group, "model_ema_force_cpu", help="keep it in the CPU's memory, without evaluating it")
    Parser.flag(group, "model_ema_eval", help="evaluate it, too, after each epoch")


def _training_options(parser):
    group = parser.add_argument_group("training")
    group.add_argument("--batch_size", type=positive, default=512, help="images a batch and process")
    group.add_argument("--update_freq", type=positive, default=2, help="batches added up for one optimiser step")
    group.add_argument("--epochs", type=positive, default=100, help="epochs")
    group.add_argument("--start_epoch", type=whole, default=0, help="epoch that a run without a state starts at")
    group.add_argument("--opt", default="adamw", help="optimiser, by timm's name")
    group.add_argument("--opt_eps", type=float, default=1e-8, help="its epsilon")
    group.add_argument(
        "--opt_betas", type=float, nargs="+", metavar="BETA", help="its betas; default: the optimiser's own"
    )
    group.add_argument("--momentum", type=float, default=0.9, help="of optimisers that have one")
    group.add_argument("--clip_grad", type=float, help="largest norm of the gradient; default: any")
    group.add_argument("--weight_decay", type=float, default=0.05, help="of convolutions and Linears")
    group.add_argument("--weight_decay_end", type=float, help="what it falls to along a cosine; default: constant")
    group.add_argument("--lr", type=float, default=1e-3, help="highest learning rate")
    group.add_argument("--min_lr", type=float, default=1e-6, help="learning rate at the end of the cosine")
    group.add_argument("--warmup_epochs", type=whole, default=5, help="epochs of linear warm-up")
    group.add_argument("--warmup_steps", type=int, default=-1, help="steps of warm-up instead of epochs, if positive")
    group.add_argument("--warmup_start_lr", type=float, default=0.0, help="learning rate of the first step")
    group.add_argument("--seed", type=whole, default=0, help="of weights, data order and augmentation")
    group.add_argument("--amp", default="off", choices=("off", "bf16", "fp16"), help="precision of the network")
    Parser.flag(group, "use_amp", help="short for --amp fp16 on a GPU and bf16 on a CPU")
    group.add_argument(
        "--device", default="cuda", choices=("cuda", "cpu"), help="cuda falls back to the CPU where there is none"
    )


def _augmentation_options(parser):
    group = parser.add_argument_group("augmentation")
    group.add_argument("--color_jitter", type=float, default=0.0, help="colour jitter, where --aa is off")
    group.add_argument("--aa", default="rand-m9-mstd0.5-inc1", help="timm's automatic augmentation, or none")
    group.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    group.add_argument("--train_interpolation", default="bicubic", choices=("bicubic", "bilinear", "random"),
                       help="resizing of training images")  # fmt: skip
    group.add_argument(
        "--crop_pct", type=float, help="share of the resized image that evaluation looks at; default 0.875"
    )
    group.add_argument("--reprob", type=float, default=0.0, help="probability of random erasing")
    group.add_argument("--remode", default="pixel", choices=("const", "rand", "pixel"), help="what is put in its place")
    group.add_argument("--recount", type=positive, default=1, help="rectangles to erase")
    Parser.flag(group, "resplit", help="leave the first half of each batch as it is")
    group.add_argument("--mixup", type=float, default=0.0, help="alpha of mixup, off at 0")
    group.add_argument("--cutmix", type=float, default=0.0, help="alpha of CutMix, off at 0")
    group.add_argument(
        "--cutmix_minmax", type=float, nargs=2, metavar=("MIN", "MAX"), help="CutMix by size instead of alpha"
    )
    group.add_argument("--mixup_prob", type=float, default=1.0, help="probability of either")
    group.add_argument("--mixup_switch_prob", type=float, default=0.5, help="share of CutMix where both are on")
    group.add_argument("--mixup_mode", default="batch", choices=("batch", "pair", "elem"), help="what is mixed alike")
    Parser.flag(group, "multi_scale_sampler", help="batches of varying image size and about as many pixels each")
    for which, default in (("min", 160), ("max", 320)):
        for side, name in (("w", "width"), ("h", "height")):
            group.add_argument(
                f"--{which}_crop_size_{side}", type=positive, default=default, help=f"{which}imum {name} of them"
            )


def _data_options(parser):
    group = parser.add_argument_group("data")
    group.add_argument("--data_path", default="data/ILSVRC2012/imagenet/",
                       help="folder with train and val (folders, .tar or .zip), or the training images")  # fmt: skip
    group.add_argument("--eval_data_path", help="validation images; default: val beside train")
    group.add_argument("--data_set", default="IMNET", choices=("IMNET", "image_folder"),
                       help="image_folder: --data_path holds the classes themselves")  # fmt: skip
    Parser.flag(group, "imagenet_default_mean_and_std", default=True, help="ImageNet's normalisation, else 0.5 and 0.5")
    group.add_argument("--num_workers", type=whole, default=10, help="processes that read images")
    Parser.flag(group, "pin_mem", default=True, help="pin memory for the way to the GPU")
    group.add_argument("--on_bad_sample", default="stop", choices=("stop", "skip"), help="what a broken image does")


def _run_options(parser):
    group = parser.add_argument_group("run")
    group.add_argument("--output_dir", default="./save", help="checkpoints, states and logs")
    group.add_argument("--log_dir", help="TensorBoard; default: the output folder")
    group.add_argument("--resume", metavar="FILE", help="state to go on from; with --eval, the checkpoint to evaluate")
    Parser.flag(group, "auto_resume", default=True, help="go on from the newest state of the output folder, if any")
    Parser.flag(group, "save_ckpt", default=True, help="write checkpoints and states")
    group.add_argument("--save_ckpt_freq", type=positive, default=1, help="epochs between checkpoints")
    group.add_argument("--save_ckpt_num", type=positive, default=3, help="checkpoints and states to keep")
    group.add_argument("--save_steps", type=positive, help="also save a state every so many steps")
    Parser.flag(group, "eval", help="evaluate only")
    Parser.flag(group, "dist_eval", default=True, help="share the evaluation between the processes")
    Parser.flag(group, "disable_eval", help="train without validation images")
    Parser.flag(group, "enable_wandb", help="also log to Weights and Biases (package wandb)")
    group.add_argument("--project", default="lite-mono", help="its project")


def contradictions(opt):
    """Yield (what, which, fix) for every rule between options that `opt` breaks."""
    sizes = ["input_size"]
    if opt.multi_scale_sampler:
        sizes += [f"{which}_crop_size_{side}" for which in ("min", "max") for side in "wh"]
        for side in "wh":
            low, high = (getattr(opt, f"{which}_crop_size_{side}") for which in ("min", "max"))
            if low > high:
                yield f"--min_crop_size_{side} is larger than --max_crop_size_{side}", f"{low} {high}", "swap them"
    for name in sizes:
        value = getattr(opt, name)
        if value % 32:
            yield f"--{name} is not a multiple of 32", value, f"use {max(32, round(value / 32) * 32)}, for example"
    for name in ("drop_path", "classifier_dropout", "smoothing", "model_ema_decay"):
        if not 0 <= getattr(opt, name) < 1:
            yield f"--{name} must be at least 0 and below 1", getattr(opt, name), "see --help for its default"
    for name in ("reprob", "mixup_prob", "mixup_switch_prob"):
        if not 0 <= getattr(opt, name) <= 1:
            yield f"--{name} is a probability", getattr(opt, name), "give a number from 0 to 1"
    if opt.crop_pct is not None and not 0 < opt.crop_pct <= 1:
        yield "--crop_pct is a share of the image", opt.crop_pct, "use 0.875"
    if not 0 <= opt.min_lr <= opt.lr:
        yield "--min_lr must lie between 0 and --lr", f"{opt.min_lr} {opt.lr}", "lower it"
    if opt.warmup_steps <= 0 and opt.warmup_epochs >= opt.epochs and not opt.eval:
        yield "the warm-up takes the whole run", f"{opt.warmup_epochs} of {opt.epochs} epochs", "lower --warmup_epochs"
    if (opt.mixup > 0 or opt.cutmix > 0 or opt.cutmix_minmax) and opt.batch_size % 2:
        yield "mixup pairs images", f"--batch_size {opt.batch_size}", "use an even number"
    if opt.model_ema_force_cpu and opt.model_ema_eval:
        yield ("the moving average is evaluated on the training's device", "--model_ema_force_cpu --model_ema_eval",
               "drop one of them")  # fmt: skip
    if opt.eval and opt.disable_eval:
        yield "nothing is left to do", "--eval --disable_eval", "drop one of them"
