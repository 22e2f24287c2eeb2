"""Every option of ImageNet pre-training: name, default and meaning. Free of torch."""

import argparse

from networks.model_table import MODELS
from option_rules import contradictions
from system.command_line import Parser, positive, whole
from system.errors import UserError, UserErrors
from system.parallel import default_workers


def make_parser():
    """Return the parser of main.py."""
    parser = Parser(
        prog="lite-mono-pretrain-code/main.py",
        description="Train the depth encoder to classify images (ImageNet), or evaluate a classifier.",
    )
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
    Parser.flag(group, "model_ema_eval", help="evaluate it, too, after each epoch; with --eval: evaluate it")


def _training_options(parser):
    group = parser.add_argument_group("training")
    group.add_argument("--batch_size", type=positive, default=512, help="images a batch and process")
    group.add_argument("--update_freq", type=positive, default=2, help="batches added up for one optimiser step")
    group.add_argument("--epochs", type=positive, default=100, help="epochs")
    group.add_argument("--start_epoch", type=whole, default=0, help="epoch that a new run starts at, counted from 0")
    group.add_argument("--finetune", metavar="FILE", help="start a new run from the weights of a checkpoint; its "
                       "classifier is taken where the classes are the same")  # fmt: skip
    group.add_argument("--opt", default="adamw", help="optimiser, by timm's name")
    group.add_argument("--opt_eps", type=float, default=1e-8, help="its epsilon")
    group.add_argument(
        "--opt_betas", type=float, nargs="+", metavar="BETA", help="its betas; default: the optimiser's own"
    )
    group.add_argument("--momentum", type=float, default=0.9, help="of optimisers that have one")
    group.add_argument("--clip_grad", type=float, help="largest norm of the gradient; default: any")
    group.add_argument("--weight_decay", type=float, default=0.05, help="of everything with two or more dimensions")
    group.add_argument("--weight_decay_end", type=float, help="what it falls to along a cosine; default: constant")
    group.add_argument("--lr", type=float, default=1e-3, help="highest learning rate")
    group.add_argument("--min_lr", type=float, default=1e-6, help="learning rate at the end of the cosine")
    group.add_argument("--warmup_epochs", type=whole, default=5, help="epochs of linear warm-up")
    group.add_argument("--warmup_steps", type=int, default=-1, help="steps of warm-up instead of epochs, if positive")
    group.add_argument("--warmup_start_lr", type=float, default=0.0, help="learning rate of the first step")
    group.add_argument("--seed", type=whole, default=0, help="of weights, data order and augmentation")
    Parser.flag(group, "use_amp", default=True, help="mixed precision: fp16 on a GPU; nothing on a CPU")
    group.add_argument(
        "--amp", choices=("off", "bf16", "fp16"), help="precision of the network, whatever --use_amp says"
    )
    group.add_argument("--layer_decay", type=float, default=1.0, help=argparse.SUPPRESS)
    Parser.flag(group, "find_unused_params", help=argparse.SUPPRESS)  # nothing to do: every parameter is used
    group.add_argument(
        "--device", default="cuda", choices=("cuda", "cpu"), help="cuda falls back to the CPU where there is none"
    )


def _augmentation_options(parser):
    group = parser.add_argument_group("augmentation")
    group.add_argument("--color_jitter", type=float, default=0.0, help="colour jitter, where --aa is none")
    group.add_argument("--aa", default="rand-m9-mstd0.5-inc1", help="timm's automatic augmentation, or none")
    Parser.flag(group, "three_aug", help="also one of greyscale, solarising and blur for each image (DeiT III)")
    group.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    group.add_argument("--train_interpolation", default="bicubic", choices=("bicubic", "bilinear", "random"),
                       help="resizing of training images")  # fmt: skip
    group.add_argument(
        "--crop_pct", type=float, help="share of the resized image's side that evaluation sees; default: 0.875"
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
    group.add_argument("--num_workers", type=whole, default=default_workers(10),
                       help="processes that read images; by default one for each core, at most 10")  # fmt: skip
    Parser.flag(group, "pin_mem", default=True, help="pin memory for the way to the GPU")
    group.add_argument("--on_bad_sample", default="stop", choices=("stop", "skip"), help="what a broken image does")


def _run_options(parser):
    group = parser.add_argument_group("run")
    group.add_argument("--output_dir", default="./save", help="checkpoints, states and logs")
    group.add_argument("--log_dir", help="TensorBoard; default: the output folder")
    group.add_argument("--resume", nargs="?", const="newest", metavar="FILE", help="state to continue from, bare: the "
                       "output folder's newest; with --eval, the checkpoint to evaluate, else its best")  # fmt: skip
    Parser.flag(group, "auto_resume", default=True, help="continue from the newest state of the output folder, if any")
    Parser.flag(group, "save_ckpt", default=True, help="write checkpoints and states")
    group.add_argument("--save_ckpt_freq", type=positive, default=1, help="epochs between checkpoints")
    group.add_argument("--save_ckpt_num", type=positive, default=3, help="checkpoints and states to keep")
    group.add_argument("--save_steps", type=positive, help="also save a state every so many steps")
    Parser.flag(group, "eval", help="evaluate only")
    Parser.flag(group, "usi_eval", help="with --eval: a checkpoint of USI training (entry state_dict, --crop_pct 0.95)")
    Parser.flag(group, "dist_eval", default=True, help="share the evaluation between the processes")
    Parser.flag(group, "disable_eval", help="train without validation images")
    Parser.flag(group, "enable_wandb", help="also log to Weights and Biases (requirements-wandb.txt)")
    group.add_argument("--project", default="litemono", help="its project")
    Parser.flag(group, "wandb_ckpt", help="at the end, upload the output folder there as an artifact")
    for name in ("--local_rank", "--local-rank", "--world_size", "--dist_on_itp", "--dist_url"):
        group.add_argument(name, action=_LaunchOption)


class _LaunchOption(argparse.Action):
    """An option that older launchers give each process: says what starts several processes today."""

    def __init__(self, option_strings, dest):
        super().__init__(option_strings, dest, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    def __call__(self, parser, namespace, value, option_string=None):
        raise UserError("several processes are started by torchrun", option_string,
                        "use torchrun --nproc_per_node=N in place of python -m torch.distributed.launch")  # fmt: skip
