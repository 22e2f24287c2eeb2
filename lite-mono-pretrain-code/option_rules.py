"""What values the options of pre-training may have, and which of them go together. Free of torch."""

import math
import re

LARGEST_SIDE = 4096  # pixels of an image that the network sees
MOST_CLASSES = 100_000  # ImageNet-21k has 21,841
MOST_WORKERS = 256
MOST_RECTANGLES = 100

# Numbers and their ranges: options, least value, greatest value, whether the ends themselves are allowed.
RANGES = (
    (("drop_path", "classifier_dropout", "smoothing", "model_ema_decay", "momentum"), 0, 1, (True, False)),
    (("reprob", "mixup_prob", "mixup_switch_prob"), 0, 1, (True, True)),
    (("weight_decay", "weight_decay_end", "warmup_start_lr", "min_lr", "opt_eps"), 0, math.inf, (True, False)),
    (("lr", "clip_grad"), 0, math.inf, (False, False)),
    (("color_jitter", "mixup", "cutmix", "layer_scale_init_value"), 0, 100, (True, True)),
    (("crop_pct",), 0.1, 1, (True, True)),
)  # fmt: skip

# The automatic augmentation that timm knows: a policy, and settings behind dashes such as m9 or mstd0.5.
_NUMBER, _WHOLE = r"\d+(\.\d+)?", r"\d{1,2}"
_POLICIES = {
    "rand": rf"m{_WHOLE}|n[1-9]|p(0(\.\d+)?|1(\.0+)?)|mstd{_NUMBER}|mmax[1-9]\d?|inc[01]|t(weights|3a|3aw)",
    "augmix": rf"m{_WHOLE}|w[1-9]|d[1-9]|b[01]|mstd{_NUMBER}",
    "v0|v0r|original|originalr|3a": rf"mstd{_NUMBER}",
}
_AUGMENTATION = re.compile("|".join(f"(({name})(-({settings}))*)" for name, settings in _POLICIES.items()))


def contradictions(opt):
    """Yield (what, which, fix) for every rule that the options `opt` break."""
    yield from _out_of_range(opt)
    yield from _sizes(opt)
    yield from _augmentation(opt)
    yield from _schedule(opt)
    yield from _runs(opt)


def _out_of_range(opt):
    for names, least, greatest, closed in RANGES:
        for name in names:
            value = getattr(opt, name)
            if value is not None and not _lies_in(value, least, greatest, closed):
                yield f"--{name} is out of range", value, f"use a number {_range(least, greatest, closed)}"
    for name, most in (("nb_classes", MOST_CLASSES), ("num_workers", MOST_WORKERS), ("recount", MOST_RECTANGLES),
                       ("seed", 2**32 - 1)):  # fmt: skip
        if getattr(opt, name) > most:
            yield f"--{name} is too large", getattr(opt, name), f"use {most} at most"
    if opt.opt_betas is not None:
        count = 3 if "adan" in opt.opt.lower() else 2
        if len(opt.opt_betas) != count or not all(0 <= beta < 1 for beta in opt.opt_betas):
            given = " ".join(map(str, opt.opt_betas))
            what = f"--opt_betas of {opt.opt} takes {count} numbers of at least 0 and below 1"
            yield what, given, f"use {' '.join(('0.9', '0.99', '0.999')[-count:])}, for example"
    if "adahessian" in opt.opt.lower():
        yield "second derivatives are not computed here", f"--opt {opt.opt}", "use an optimiser of first order"
    if opt.layer_decay != 1:
        yield ("layers with learning rates of their own are not supported, nor are they in the published scripts",
               f"--layer_decay {opt.layer_decay}", "leave it out")  # fmt: skip


def _lies_in(value, least, greatest, closed):
    return least < value < greatest or (closed[0] and value == least) or (closed[1] and value == greatest)


def _range(least, greatest, closed):
    low = f"of at least {least}" if closed[0] else f"above {least}"
    if greatest == math.inf:
        return low
    return f"{low} and {'at most' if closed[1] else 'below'} {greatest}"


def _sizes(opt):
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
        elif value > LARGEST_SIDE:
            yield f"--{name} is too large", value, f"use {LARGEST_SIDE} at most"


def _augmentation(opt):
    if opt.aa.lower() not in ("", "none") and not _AUGMENTATION.fullmatch(opt.aa):
        yield "timm knows no such automatic augmentation", f"--aa {opt.aa}", "use rand-m9-mstd0.5-inc1, or none"
    mixes = opt.mixup > 0 or opt.cutmix > 0 or opt.cutmix_minmax is not None
    if opt.cutmix_minmax is not None:
        low, high = opt.cutmix_minmax
        smallest = min(opt.input_size, opt.min_crop_size_w, opt.min_crop_size_h)
        if not 0 <= low < high <= 1 or int(smallest * low) == int(smallest * high):
            yield "--cutmix_minmax takes two shares of the image's side", f"{low} {high}", "use 0.2 0.8, for example"
    if mixes and opt.batch_size % 2:
        yield "mixup pairs images", f"--batch_size {opt.batch_size}", "use an even number"


def _schedule(opt):
    if opt.min_lr > opt.lr > 0:
        yield "--min_lr is larger than --lr", f"{opt.min_lr} {opt.lr}", "lower it"
    if opt.eval:
        return
    if opt.warmup_steps <= 0 and opt.warmup_epochs >= opt.epochs:
        yield "the warm-up takes the whole run", f"{opt.warmup_epochs} of {opt.epochs} epochs", "lower --warmup_epochs"
    if opt.start_epoch >= opt.epochs:
        yield ("no epoch is left to train", f"--start_epoch {opt.start_epoch} --epochs {opt.epochs}",
               "epochs count from 0: lower --start_epoch or raise --epochs")  # fmt: skip


def _runs(opt):
    if opt.model_ema_force_cpu and opt.model_ema_eval:
        yield ("the moving average is evaluated on the training's device", "--model_ema_force_cpu --model_ema_eval",
               "drop one of them")  # fmt: skip
    if opt.eval and opt.disable_eval:
        yield "nothing is left to do", "--eval --disable_eval", "drop one of them"
    if opt.finetune and (opt.eval or opt.resume):
        other = "--eval" if opt.eval else "--resume"
        yield ("--finetune starts a new run", f"--finetune {opt.finetune} {other}",
               "evaluate a checkpoint with --eval --resume FILE, go on from a state with --resume FILE")  # fmt: skip
    if opt.usi_eval and not opt.eval:
        yield "--usi_eval is a way to evaluate", "--usi_eval without --eval", "add --eval, or drop it"
    if opt.usi_eval and opt.model_ema_eval:
        yield "the file's weights are named twice", "--usi_eval --model_ema_eval", "drop one of them"
    if opt.wandb_ckpt and not (opt.enable_wandb and opt.save_ckpt):
        yield "there is nothing to upload", "--wandb_ckpt", "it needs --enable_wandb, and checkpoints (--save_ckpt)"
