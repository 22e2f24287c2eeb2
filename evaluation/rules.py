"""The rules between evaluation's options. Free of torch."""

import os

from checkpointing.published import WEIGHTS
from evaluation import BENCHMARK


def contradictions(opt):
    """Yield (what, which, fix) for every rule between evaluation's options that `opt` breaks."""
    names = named_weights(opt)
    if not names and not opt.ext_disp_to_eval:
        yield "nothing to evaluate", "no weights given", "add --load_weights_folder FOLDER or --ext_disp_to_eval FILE"
    if names and opt.ext_disp_to_eval:
        yield "two sources of predictions", "--load_weights_folder and --ext_disp_to_eval", "drop one"
    if opt.ext_disp_to_eval:
        for flag in ("save_pred_disps", "post_process", "all", "no_eval"):
            if getattr(opt, flag):
                yield "stored disparities are only evaluated", f"--{flag} with --ext_disp_to_eval", f"drop --{flag}"
    if opt.no_eval:
        for flag in ("csv", "json"):
            if getattr(opt, flag):
                yield "without an evaluation there is nothing to write", f"--{flag} with --no_eval", "drop one"
    if (opt.all or len(names) > 1) and opt.eval_out_dir and opt.save_pred_disps:
        yield "all weights would write the same file", "--save_pred_disps with --eval_out_dir", "drop --eval_out_dir"
    if opt.save_pred_disps and not opt.eval_out_dir:
        for name in names:
            if name in WEIGHTS and not os.path.exists(os.path.expanduser(name)):
                yield "a published name has no folder for disparities", name, "add --eval_out_dir FOLDER"
    if opt.dataset == "make3d":
        for flag in ("statistics", "protocol"):
            if getattr(opt, flag):
                yield "Make3D has a protocol of its own", f"--{flag} with --dataset make3d", "drop one"
    yield from _about_submission(opt, names)
    if opt.eval_stereo and opt.eval_mono:
        yield "two ways to evaluate", "--eval_mono and --eval_stereo", "drop one"
    if opt.metric:
        for flag in ("ext_disp_to_eval", "eval_stereo", "eval_mono"):
            if getattr(opt, flag):
                yield "--metric is a scale of weights, for no other scaling", f"--metric with --{flag}", "drop one"
        if opt.pred_depth_scale_factor != 1:
            yield "two scales", "--metric and --pred_depth_scale_factor", "drop one"
    others = [flag for flag in ("eval_stereo", "disable_median_scaling", "metric") if getattr(opt, flag)]
    if opt.alignment and opt.alignment != "none" and others:
        other = f"--{others[0]}"
        yield "depth is to be scaled and not to be scaled", f"--alignment {opt.alignment} with {other}", "drop one"


def _about_submission(opt, names):
    """Yield what is wrong with asking, or not asking, for the files of KITTI's benchmark."""
    if not opt.submission:
        if opt.eval_split == BENCHMARK:
            yield "the benchmark's ground truth is not public", "--eval_split benchmark", "add --submission FOLDER"
        return
    if opt.eval_split != BENCHMARK or opt.dataset != "kitti":
        yield "a submission is of KITTI's benchmark", f"--submission {opt.submission}", "add --eval_split benchmark"
    for flag in ("csv", "json", "report", "plots", "statistics", "no_eval", "all"):
        if getattr(opt, flag):
            yield "a submission is not evaluated here", f"--{flag} with --submission", f"drop --{flag}"
    if len(names) > 1:
        yield "a submission is of one set of weights", f"{len(names)} given", "give one"
    if not (opt.eval_stereo or opt.metric or opt.pred_depth_scale_factor != 1):
        yield ("a submission needs depth in metres", f"--submission {opt.submission}",
               "add --metric, --eval_stereo or --pred_depth_scale_factor")  # fmt: skip
    if opt.alignment not in (None, "none"):
        yield "the benchmark's ground truth is not public", f"--alignment {opt.alignment}", "drop it"


def named_weights(opt):
    """Return the list of weights that the options name, perhaps empty."""
    names = opt.load_weights_folder or []
    return [names] if isinstance(names, str | os.PathLike) else list(names)
