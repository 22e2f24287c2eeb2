"""Evaluate depth on a KITTI split: weights or stored disparities against LiDAR, the seven standard metrics.

    python evaluate_depth.py --load_weights_folder WEIGHTS --data_path DATA --model lite-mono
"""

import argparse
import os
import sys
from typing import NamedTuple

import numpy as np

import files
from datasets.splits import resolve_split
from errors import UserError, UserErrors, command
from evaluation import report
from evaluation.metrics import (
    STEREO_SCALE,
    Protocol,
    batch_post_process_disparity,
    compute_errors,
    evaluate_images,
    mean_errors,
)
from evaluation.parallel import batched, map_in_order
from fetching.published import weights_folder

__all__ = ("batch_post_process_disparity", "compute_errors", "evaluate", "main")


class Evaluation(NamedTuple):
    """One set of predictions: its `name`, the seven `means`, every image's `ImageResult`, the `summary` for JSON."""

    name: str
    means: np.ndarray
    results: list
    summary: dict


@command
def main(argv=None):
    """Run the command line."""
    from options import LiteMonoOptions

    evaluate(LiteMonoOptions(prog="evaluate_depth.py").parse(argv))
    return 0


def evaluate(opt):
    """Evaluate as the options say; print the table, write what was asked for.

    Args:
        opt: namespace with the options of `options.LiteMonoOptions`; those it lacks take their defaults.

    Returns:
        A list of `Evaluation`: one, or one per weights folder with --all; empty with --no_eval.

    Raises:
        UserError: options that contradict each other; anything missing, damaged or not matching.
    """
    opt = _completed(opt)
    problems = [UserError(*problem) for problem in _contradictions(opt)]
    if problems:
        raise UserErrors(problems)
    split = resolve_split(opt.eval_split)
    lines = split.lines("test")
    folders = _weights_folders(opt)
    stored = _stored_disparities(opt.ext_disp_to_eval, len(lines)) if opt.ext_disp_to_eval else None
    protocol = _protocol(opt, split)
    ground_truth = None
    evaluations = []
    for folder in folders:
        disparities, about = (stored, {}) if folder is None else _network_disparities(opt, folder, lines)
        if folder is not None and opt.save_pred_disps:
            target = os.path.join(opt.eval_out_dir or folder, f"disps_{split.name}_split.npy")
            disparities = _written_on_the_way(target, disparities, len(lines))
        if opt.no_eval:
            count = sum(1 for _ in disparities)
            print(f"{count} images predicted, not evaluated")
            continue
        if ground_truth is None:
            ground_truth = _ground_truth(opt, split, lines)
        name = os.path.basename(os.path.abspath(folder or opt.ext_disp_to_eval))
        source = folder or opt.ext_disp_to_eval
        try:
            results = list(evaluate_images(ground_truth, disparities, protocol))
        except ValueError as error:
            if len(folders) == 1:
                raise UserError("these predictions cannot be evaluated", f"{source}: {error}",
                                "the weights or disparities are broken, choose others") from error  # fmt: skip
            print(f"{name}: {error}; left out", file=sys.stderr)
            continue
        about = {"predictions": os.path.abspath(source), "split": split.name, "post_process": opt.post_process, **about}
        evaluations.append(
            Evaluation(name, mean_errors(results), results, report.summary(results, protocol, **about))
        )
        if len(folders) == 1:
            _print_single(evaluations[0], protocol)
    if len(folders) > 1 and evaluations:
        _print_comparison(evaluations)
    _write_requested(opt, lines, evaluations)
    return evaluations


# ------------------------------------------------------------------------------------------------ what to evaluate


def _completed(opt):
    from options import LiteMonoOptions

    defaults = LiteMonoOptions().parser.parse_args([])
    return argparse.Namespace(**{**vars(defaults), **vars(opt)})


def _contradictions(opt):
    if not opt.load_weights_folder and not opt.ext_disp_to_eval:
        yield "nothing to evaluate", "no weights given", "add --load_weights_folder FOLDER or --ext_disp_to_eval FILE"
    if opt.load_weights_folder and opt.ext_disp_to_eval:
        yield "two sources of predictions", "--load_weights_folder and --ext_disp_to_eval", "drop one"
    if opt.ext_disp_to_eval:
        for flag in ("save_pred_disps", "post_process", "all", "no_eval"):
            if getattr(opt, flag):
                yield "stored disparities are only evaluated", f"--{flag} with --ext_disp_to_eval", f"drop --{flag}"
    if opt.no_eval:
        for flag in ("csv", "json"):
            if getattr(opt, flag):
                yield "without an evaluation there is nothing to write", f"--{flag} with --no_eval", "drop one"
    if opt.all and opt.eval_out_dir and opt.save_pred_disps:
        yield "all epochs would write the same file", "--all with --eval_out_dir", "drop --eval_out_dir"
    for flag in ("csv", "json"):
        path = getattr(opt, flag)
        if path and os.path.isdir(path):
            yield "a folder stands where a file is to be written", f"--{flag} {path}", "give a file name"


def _weights_folders(opt):
    """The folders to evaluate; [None] stands for stored disparities."""
    if not opt.load_weights_folder:
        return [None]
    top = weights_folder(opt.load_weights_folder)
    if not opt.all:
        return [top]
    for folder in (top, os.path.join(top, "models")):
        names = os.listdir(folder) if os.path.isdir(folder) else ()
        found = [name for name in names if name.startswith("weights_") and os.path.isdir(os.path.join(folder, name))]
        if found:
            return [os.path.join(folder, name) for name in sorted(found, key=_epoch_order)]
    raise UserError("no weights_<epoch> folders to evaluate", top, "give a run's models folder, as train.py writes it")


def _epoch_order(name):
    epoch = name.removeprefix("weights_")
    return (0, int(epoch), "") if epoch.isdecimal() else (1, 0, epoch)


def _protocol(opt, split):
    from evaluation.ground_truth import IMPROVED_SPLITS

    scale, median_scaling = opt.pred_depth_scale_factor, not opt.disable_median_scaling
    if opt.use_stereo:
        median_scaling = False
        scale = scale if scale != 1 else STEREO_SCALE
        print(f"stereo: no median scaling, depth times {scale:g}")
    make = Protocol.for_improved_maps if split.name in IMPROVED_SPLITS else Protocol
    return make(median_scaling=median_scaling, scale_factor=scale)


def _ground_truth(opt, split, lines):
    from evaluation import ground_truth

    path = ground_truth.ground_truth_path(split)
    if not os.path.isfile(path):
        print(f"{path} is missing: building it from {opt.data_path}")
        ground_truth.build(opt.data_path, split, lines)
    return ground_truth.load_ground_truth(path, lines)


# ------------------------------------------------------------------------------------------------ predictions


def _network_disparities(opt, folder, lines):
    """Load a network; return (generator of scaled disparities (H, W) float32, what the summary says about it)."""
    from datasets import KITTIRAWDataset
    from evaluation.cost import network_cost
    from inference import Predictor, choose_device

    predictor = Predictor(folder, opt.model, choose_device(opt.no_cuda), dilations=opt.dilations)
    network = predictor.network
    cost = network_cost(network.encoder, network.decoder, predictor.height, predictor.width)
    print(f"{folder}: {opt.model}, {predictor.width}x{predictor.height}, {cost}")
    dataset = KITTIRAWDataset(
        opt.data_path,
        lines,
        predictor.height,
        predictor.width,
        (0,),
        1,
        img_ext=".png" if opt.png else ".jpg",
        keys=[("color", 0, 0)],
    )
    about = {
        "model": opt.model,
        "height": predictor.height,
        "width": predictor.width,
        "dilations": network.dilations,
        "parameters": cost.encoder_parameters + cost.decoder_parameters,
        "multiply_adds": cost.multiply_adds,
    }
    return _predictions(opt, predictor, dataset), about


def _predictions(opt, predictor, dataset):
    import torch

    from layers import disp_to_depth
    from progress import Progress

    images = map_in_order(lambda index: dataset[index]["color", 0, 0], range(len(dataset)), opt.num_workers)
    run = predictor.predict_post_processed if opt.post_process else predictor.predict
    with Progress("predicting", len(dataset), "images") as progress:
        for batch in batched(images, opt.batch_size):
            scaled, _ = disp_to_depth(run(torch.stack(batch)), *_depth_range(opt, predictor.network))
            yield from scaled[:, 0].float().cpu().numpy()
            progress.advance(len(batch))


def _depth_range(opt, network):
    """What the disparity stands for: the options where they differ from the published range, else what the weights say."""
    from checkpoints import DEPTH_RANGE

    given = opt.min_depth, opt.max_depth
    return network.depth_range if given == DEPTH_RANGE else given


def _stored_disparities(path, count):
    try:
        disparities = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError("no such disparities file", path, "give a .npy as --save_pred_disps writes it") from None
    except (ValueError, EOFError) as error:
        raise UserError("not a plain .npy array", path, "give a .npy as --save_pred_disps writes it") from error
    if not isinstance(disparities, np.ndarray) or not np.issubdtype(disparities.dtype, np.floating):
        raise UserError("the disparities are not one array of floats", path, "give a .npy of shape (images, H, W)")
    if disparities.ndim == 4 and disparities.shape[1] == 1:
        disparities = disparities[:, 0]
    if disparities.ndim != 3 or 0 in disparities.shape:
        raise UserError("the disparities have the wrong shape", f"{path}: {disparities.shape}",
                        "give a .npy of shape (images, H, W)")  # fmt: skip
    if len(disparities) != count:
        raise UserError("disparities and split differ in length", f"{path}: {len(disparities)} maps, {count} lines",
                        "choose the --eval_split that they were made for")  # fmt: skip
    return disparities


def _written_on_the_way(path, disparities, count):
    """Yield `disparities`, (H, W) float32 each, while they go into a .npy of shape (count, H, W)."""
    with files.replacing(path) as file:
        for index, disparity in enumerate(disparities):
            if index == 0:
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, *disparity.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(disparity, "<f4").tobytes())
            yield disparity
    print(f"disparities written to {path}")


# ------------------------------------------------------------------------------------------------ telling


def _print_single(evaluation, protocol):
    left_out = evaluation.summary["images_without_ground_truth"]
    if left_out:
        print(f"{left_out} of {len(evaluation.results)} images have no ground truth that counts and are left out")
    print(report.scaling_line(evaluation.results, protocol))
    print(report.header())
    print(report.row(evaluation.means))


def _print_comparison(evaluations):
    lines, best = report.comparison([each.name for each in evaluations], [each.means for each in evaluations])
    print("\n".join(lines))
    if best is not None:
        evaluations[best].summary["best"] = True


def _write_requested(opt, lines, evaluations):
    if opt.csv:
        report.write_csv(opt.csv, [(each.name, lines, each.results) for each in evaluations])
        print(f"results of every image written to {opt.csv}")
    if opt.json:
        summaries = [each.summary for each in evaluations]
        files.write_json(opt.json, summaries if opt.all else summaries[0])
        print(f"summary written to {opt.json}")


if __name__ == "__main__":
    sys.exit(main())
