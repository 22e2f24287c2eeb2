"""The parts that are measured. Each function takes the settings of `benchmark.py` and returns `timing.Row`s."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc

import numpy as np

from benchmark import exported, forward_pass, items, preparation, projection, sharing, training_step, video_loop
from benchmark.timing import Row, in_turn, rows
from benchmark.worker import ROOT, Worker
from checkpointing.folders import save_networks
from datasets import KITTIRAWDataset
from datasets.cache import FrameCache
from datasets.cache_contents import CacheContents
from evaluation.cost import network_cost
from evaluation.metrics import Protocol, evaluate_images
from exporting import checks
from exporting.export import read_images
from exporting.network import Form
from networks import DepthDecoder, LiteMono
from networks.model_table import MODELS

SIZES = ((192, 640), (320, 1024))
SCRIPTS = ("train.py", "evaluate_depth.py", "test_simple.py", "export_gt_depth.py")


def loader(settings):
    """Items a second on one core, three frames with augmentation: from files, and from a cache."""
    with tempfile.TemporaryDirectory() as folder:
        items.write_drive(folder)
        seconds, _ = _measured(settings, "items", items.VERSIONS, (folder,))
    seconds["cache"] = [each / items.CACHE_REPEATS for each in seconds["cache"]]
    return rows("loader", "640x192, 3 frames", "items/s", seconds, rate=items.COUNT)


def _measured(settings, job, versions, arguments, times=1):
    """Return ({version: [seconds]}, {version: [answers]}) of a job of `benchmark`, the versions taken in turn."""
    with contextlib.ExitStack() as stack:
        workers = {each: stack.enter_context(Worker(f"benchmark.{job}", each, arguments, times)) for each in versions}
        runs = {version: worker.run for version, worker in workers.items()}
        seconds = in_turn(runs, settings.rounds, settings.warm_up)
        return seconds, {version: worker.answers[-settings.rounds :] for version, worker in workers.items()}


def step(settings):
    """Seconds and peak memory of a training step."""
    versions = [each for each in training_step.VERSIONS if settings.compile or "compiled" not in each]
    return _steps(settings, versions)


def ablation(settings):
    """The training step on a CPU without each of its fast ways (see cpu/__init__.py), and without all of them."""
    return _steps(settings, training_step.ABLATION)


def shared_cores(settings):
    """Seconds of a short run, and of two at once on the same cores, without and with data workers."""
    steps, result = 5 if settings.quick else 30, []
    with tempfile.TemporaryDirectory() as data:
        sharing.write_street(data)
        for workers in (0, 2):
            runs = {
                version: lambda version=version, workers=workers: sharing.seconds(version, data, workers, steps)
                for version in sharing.VERSIONS
            }
            measured = in_turn(runs, min(settings.rounds, 3))
            result += rows("shared cores", f"{steps} steps, {workers} workers", "s", measured)
    return result


def _steps(settings, versions):
    what = f"{settings.model} 640x192, batch {settings.batch}"
    arguments = settings.model, settings.batch, 192, 640, settings.no_cuda
    seconds, answers = _measured(settings, "training_step", versions, arguments)
    result = rows("step", what, "s", seconds)
    worked = {version: [each["cpu_seconds"] for each in given] for version, given in answers.items()}
    result += rows("step", what, "s of CPU", worked)
    peaks = {version: given[-1]["peak_gb"] for version, given in answers.items()}
    for version, peak in peaks.items():
        gain = None if version == versions[0] else peaks[versions[0]] / peak
        result.append(Row("step", what, version, "GB peak", peak, peak, peak, gain))
    return result


def inference(settings):
    """Milliseconds of a forward pass to disparity, over models, sizes and batches."""
    result = []
    for model, (height, width), batch in settings.forward_passes:
        arguments = model, height, width, batch, settings.no_cuda
        times = max(1, 4 // batch)
        measured, _ = _measured(settings, "forward_pass", forward_pass.VERSIONS, arguments, times)
        result += rows("inference", f"{model} {width}x{height}, batch {batch}", "ms", measured, per=1000)
    return result


def export(settings):
    """Milliseconds, size and error of exported files at batch 1, every engine and precision beside torch."""
    result, base = [], next(iter(MODELS))
    chosen = [settings.model] if settings.export_weights or settings.quick else MODELS
    for model, (height, width) in [(model, size) for model in chosen for size in SIZES[: 1 if settings.quick else 2]]:
        what, form = f"{model} {width}x{height}", Form((height, width))
        network = exported.networks(model, height, width, settings.export_weights)
        with tempfile.TemporaryDirectory() as folder:
            images = settings.export_images or os.path.dirname(items.image_path(folder, 0))
            if not settings.export_images:
                items.write_drive(folder)
            pixels = read_images(images, form, 16)
            all_forms = (model, height) == (base, SIZES[0][0])
            sizes = exported.write_models(folder, network, pixels, all_forms)
            versions = exported.VERSIONS + (exported.FORM_VERSIONS if all_forms else ())
            arguments = model, height, width, settings.export_weights, folder
            measured, _ = _measured(settings, "exported", versions, arguments, times=4)
            result += rows("export", what, "ms", measured, per=1000)
            trials = [checks.as_input(form, each) for each in pixels[::4]]
            wanted = [checks.expected(network, form, image) for image in trials]
            for version in versions:
                moved = checks.compare(exported.predictor(version, network, folder, 0), form, trials, wanted)
                result.append(Row("export", what, version, "change of depth", *[moved.abs_rel] * 3, None))
            for name, size in sizes.items():
                result.append(Row("export", what, f"{name} file", "MB", *[size / 1e6] * 3, None))
    return result


def cost(settings):
    """Parameters and multiply-adds of the four models at both sizes."""
    result = []
    for model in MODELS:
        for height, width in SIZES:
            encoder = LiteMono(model, height, width).eval()
            numbers = network_cost(encoder, DepthDecoder(encoder.num_ch_enc).eval(), height, width)
            total = (numbers.encoder_parameters + numbers.decoder_parameters) / 1e6
            for unit, value in (("M parameters", total), ("G multiply-adds", numbers.multiply_adds / 1e9)):
                result.append(Row("cost", f"{model} {width}x{height}", "", unit, value, value, value, None))
    return result


def ground_truth(settings):
    """Milliseconds of projecting one scan, with reading its files."""
    with tempfile.TemporaryDirectory() as folder:
        projection.write_scan(folder)
        seconds, _ = _measured(settings, "projection", projection.VERSIONS, (folder,), times=5)
    return rows("ground truth", "one scan", "ms", seconds, per=1000)


def start_up(settings):
    """Seconds until `--help` has been printed, and of predicting one image beside those of importing torch."""

    def runner(*words):
        words = [sys.executable, *words]
        return lambda: subprocess.run(words, check=True, capture_output=True, cwd=ROOT) is None or None

    measured = in_turn({script: runner(script, "--help") for script in SCRIPTS}, settings.rounds)
    result = [row for script in SCRIPTS for row in rows("start-up", "--help", "s", {script: measured[script]})]
    with tempfile.TemporaryDirectory() as folder:
        _write_weights(folder, "lite-mono")
        items.write_drive(folder)
        image = items.image_path(folder, 0)
        words = ["test_simple.py", "--image_path", image, "--load_weights_folder", folder, "--output_dir", folder]
        measured = in_turn({"import torch": runner("-c", "import torch"), "one image": runner(*words)}, settings.rounds)
    for name, seconds in measured.items():
        result += rows("start-up", "640x192", "s", {name: seconds})
    return result


def _write_weights(folder, model):
    encoder = LiteMono(model)
    networks = {"encoder": encoder, "depth": DepthDecoder(encoder.num_ch_enc)}
    save_networks(folder, networks, 192, 640, False, encoder.dilations)


def video(settings):
    """Frames a second of a video, decoded, coloured and encoded, beside those of the network alone at batch 1."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "drive.mp4")
        _write_weights(folder, settings.model)
        video_loop.write_video(path)
        seconds, answers = _measured(settings, "video_loop", video_loop.VERSIONS, (folder, path, settings.no_cuda))
    what = f"{settings.model} 640x192, batch 1, frames of 1242x375"
    worked = {version: [each["cpu_seconds"] for each in given] for version, given in answers.items()}
    result = rows("video", what, "frames/s", seconds, rate=video_loop.FRAMES)
    return result + rows("video", what, "ms of CPU a frame", worked, per=1000 / video_loop.FRAMES)


def frames_preparation(settings):
    """Frames a second from a video to training frames, with one worker thread and with one a core."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "drive.mp4")
        video_loop.write_video(path)
        seconds, _ = _measured(settings, "preparation", preparation.VERSIONS, (path,))
    return rows("preparation", "video of 1242x375 to frames of 192 rows", "frames/s", seconds, rate=video_loop.FRAMES)


def growth(settings):
    """Seconds and memory of what a longer split costs before the first frame, and memory of scoring more images."""
    result = []
    for count in (100, 1_000, 10_000) if settings.quick else (100, 1_000, 10_000, 100_000):
        seconds, peak = _with_peak(lambda count=count: _data_set_of(count))
        result.append(Row("growth", f"data set and cache table, {count} lines", "", "s", *[seconds] * 3, None))
        result.append(Row("growth", f"data set and cache table, {count} lines", "", "MB", *[peak] * 3, None))
    for count in (10, 100) if settings.quick else (10, 100, 697):
        _, peak = _with_peak(lambda count=count: _scores_of(count))
        result.append(Row("growth", f"scoring {count} images", "", "MB", *[peak] * 3, None))
    return result


def _with_peak(work):
    """Return (seconds, MB at the peak over what there was before) of a function; memory is traced in another run."""
    work()  # what is done once
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return seconds, peak


def _data_set_of(count):
    """Make a data set of made-up lines and the table of its cache."""
    lines = [f"{items.DRIVE} {number // 2 + 1} {'lr'[number % 2]}" for number in range(count)]
    dataset = KITTIRAWDataset("nowhere", lines, 192, 640, (0, -1, 1), 3, is_train=True)
    contents = CacheContents([dataset])
    FrameCache("", contents.frames, np.ones(len(contents.frames), bool), contents.shape).attach(dataset)


def _scores_of(count):
    """Score made-up predictions against made-up ground truth."""
    class GroundTruth:
        def __len__(self):
            return count

        def __getitem__(self, index):
            return np.full(items.NATIVE, 10 + index % 7, np.float32)

    disparities = (np.full((192, 640), 0.2, np.float32) for _ in range(count))
    return list(evaluate_images(GroundTruth(), disparities, Protocol()))


PARTS = {"cost": cost, "start_up": start_up, "growth": growth, "ground_truth": ground_truth, "loader": loader,
         "inference": inference, "export": export, "video": video, "preparation": frames_preparation, "step": step,
         "ablation": ablation, "shared_cores": shared_cores}  # fmt: skip
