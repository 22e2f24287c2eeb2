"""The evaluation on KITTI-C that evaluate_robustness.py runs: cell after cell, one a corruption and severity."""

import hashlib
import itertools
import json
import os
import time

import torch

from checkpointing.fetched import weights_folder
from checkpointing.published import FILES
from datasets.images import planes
from datasets.splits import parse_lines, resolve_split
from evaluation import ground_truth, presence
from evaluation.ground_truth_file import load_ground_truth
from evaluation.metrics import Protocol, evaluate_images, mean_errors
from inference.predictor import Predictor
from kitti_utils import CAMERAS, frame_path
from layers import disp_to_depth
from robustness import HEIGHT, WIDTH, images, scores
from robustness.corruptions import FROM_PACKAGE, library
from robustness.results import CLEAN, Results, key
from system import files
from system.devices import choose_device
from system.errors import UserError
from system.parallel import available_cores, batched

CACHE_MANIFEST = "kitti_c.json"


def evaluate(options):
    """Evaluate what the options of evaluate_robustness.py ask for; return the `Results`, all cells finished.

    Raises:
        UserError: anything missing, damaged or not matching, found before the first image is made.
    """
    if FROM_PACKAGE & set(options.corruptions):
        library.package()
    folder = weights_folder(options.load_weights_folder)
    split = resolve_split(options.eval_split)
    lines = split.lines("test")
    presence.check_images(options.data_path, split, lines, options.png)
    place = ground_truth.ground_truth_path(split)
    if not os.path.isfile(place):
        files.check_place(place, "ground truth")
    device = choose_device(options.no_cuda, options.device)
    path = options.results or os.path.join(folder, f"robustness_{split.name}.json")
    settings = {"seed": options.seed, "width": WIDTH, "height": HEIGHT, "images": _digest("\n".join(lines).encode()),
                "format": ".png" if options.png else ".jpg"}  # fmt: skip
    identity = {"weights": _weights_digest(folder), "split": split.name, **settings}
    results = Results(path, identity, options.restart)
    if options.cache:
        _check_cache(options.cache, settings)
    cells = [(None, 0), *itertools.product(options.corruptions, options.severities)]
    missing = [cell for cell in cells if not results.has(*cell)]
    if len(missing) < len(cells):
        print(f"{path}: {len(cells) - len(missing)} of {len(cells)} cells are there already")
    if missing:
        predictor = Predictor(folder, options.model, device)
        truth = _ground_truth(options.data_path, split, lines)
        _evaluate_cells(options, predictor, missing, _sources(options, lines), truth, results)
    errors, clean = results.finish(options.corruptions, options.severities)
    print("\n".join(scores.table(errors, clean)))
    if len(options.severities) < 5:
        print(f"severities {' '.join(map(str, options.severities))} only: the published columns are over all five")
    print(f"results: {path}")
    return results


def _sources(options, lines):
    ending = ".png" if options.png else ".jpg"
    entries = parse_lines(lines)
    return [frame_path(options.data_path, line.folder, CAMERAS[line.side], line.frame, ending) for line in entries]


def _ground_truth(data_path, split, lines):
    path = ground_truth.ground_truth_path(split)
    if not os.path.isfile(path):
        print(f"{path} is missing: building it from {data_path}")
        ground_truth.build(data_path, split, lines)
    return load_ground_truth(path, lines)


def _weights_digest(folder):
    digest = hashlib.sha256()
    for name in FILES:
        try:
            with files.open_regular(os.path.join(folder, name), "rb") as file:
                digest.update(file.read())
        except FileNotFoundError:
            fix = "give a folder that holds encoder.pth and depth.pth"
            raise UserError("no such weights file", os.path.join(folder, name), fix) from None
    return digest.hexdigest()


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def _check_cache(folder, settings):
    """Refuse a cache of other images; a new one gets its manifest."""
    path = os.path.join(folder, CACHE_MANIFEST)
    files.check_place(path, "--cache")
    if os.path.isfile(path):
        try:
            with files.open_regular(path, encoding="utf-8") as file:
                stored = json.load(file)
        except (ValueError, RecursionError):
            stored = None
        if stored != settings:
            fix = "give another --cache, or remove this one"
            raise UserError("the cache holds other images", f"{path}: {stored}, wanted {settings}", fix)
    else:
        files.write_json(path, settings)


def _evaluate_cells(options, predictor, cells, sources, truth, results):
    workers = options.num_workers if options.num_workers is not None else min(8, available_cores())
    print(f"{predictor.model}, {predictor.width}x{predictor.height}, on {predictor.device}: {len(sources)} images x "
          f"{len(cells)} cells, made by {workers} processes", flush=True)  # fmt: skip
    made = images.make_all(_jobs(options, cells, sources), workers)
    began = time.monotonic()
    try:
        for number, (name, severity) in enumerate(cells, 1):
            disparities = _predictions(predictor, itertools.islice(made, len(sources)), options.batch_size)
            try:
                means = mean_errors(list(evaluate_images(truth, disparities, Protocol())))
            except ValueError as error:
                raise UserError("these predictions cannot be evaluated", f"{key(name, severity)}: {error}",
                                "the weights are broken, choose others") from error  # fmt: skip
            results.add(name, severity, means)
            left = (time.monotonic() - began) / number * (len(cells) - number)
            error = scores.depth_estimation_error(means[0], means[4])
            print(f"{name or CLEAN:<18}{severity or '':<3}DEE {error:.3f}  abs_rel {means[0]:.3f}  a1 {means[4]:.3f}  "
                  f"{number}/{len(cells)}, {left / 60:.1f} min left", flush=True)  # fmt: skip
    finally:
        made.close()


def _jobs(options, cells, sources):
    for name, severity in cells:
        for index, source in enumerate(sources):
            kept = ""
            if options.cache and name:
                kept = os.path.join(options.cache, name, str(severity), f"{index:06d}.png")
            yield images.Job(source, name, severity, index, options.seed, kept)


def _predictions(predictor, pictures, batch_size):
    """Yield scaled disparities (H, W) float32 of images (HEIGHT, WIDTH, 3) uint8."""
    for batch in batched(pictures, batch_size):
        stacked = torch.stack([torch.from_numpy(planes(each, predictor.height, predictor.width)) for each in batch])
        scaled, _ = disp_to_depth(predictor.predict(stacked.div_(255)), *predictor.network.depth_range)
        yield from scaled[:, 0].float().cpu().numpy()
