"""The parts that are measured. Each function takes the settings of `benchmark.py` and returns `timing.Row`s."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time

from benchmarking.timing import Row, in_turn, rows
from model_table import MODELS

SIZES = ((192, 640), (320, 1024))
NATIVE = (375, 1242)  # height and width of KITTI's images
FRAMES = 6
SCRIPTS = ("train.py", "evaluate_depth.py", "test_simple.py", "export_gt_depth.py")
DRIVE = "made_up/drive_sync"


def loader(settings):
    """Items a second on one core, three frames with augmentation: from files, and from a cache."""
    import torch

    from tests.plain import items

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker process
    with tempfile.TemporaryDirectory() as folder:
        write_drive(folder)
        versions = {"plain": _plain_items(folder, items), "files": _items(folder)}
        cached = _cached_items(folder)
        if cached:
            versions["cache"] = cached
        count = FRAMES - 2
        measured = in_turn(versions, settings.rounds)
    torch.set_num_threads(threads)
    return rows("loader", "640x192, 3 frames", "items/s", measured, rate=count)


def write_drive(folder):
    """Write the images of a made-up drive in KITTI raw's layout."""
    import numpy as np
    from PIL import Image

    os.makedirs(os.path.join(folder, DRIVE, "image_02", "data"))
    rng = np.random.default_rng(0)
    for frame in range(FRAMES):
        coarse = Image.fromarray(rng.integers(0, 255, (47, 155, 3), dtype=np.uint8))
        image = coarse.resize(NATIVE[::-1], Image.Resampling.BICUBIC)
        path = os.path.join(folder, DRIVE, "image_02", "data", f"{frame:010d}.jpg")
        image.save(path, quality=92, subsampling="4:2:0")


def _lines():
    return [f"{DRIVE} {frame} l" for frame in range(1, FRAMES - 1)]


def _plain_items(folder, items):
    rng = items.random_numbers(0)

    def run():
        for frame in range(1, FRAMES - 1):
            names = {offset: f"{frame + offset:010d}.jpg" for offset in (0, -1, 1)}
            paths = {offset: os.path.join(folder, DRIVE, "image_02", "data", name) for offset, name in names.items()}
            items.load_item(paths, 192, 640, rng)

    return run


def _dataset(folder, **more):
    from datasets import KITTIRAWDataset

    keys = {("color", frame, 0) for frame in (0, -1, 1)} | {("color_aug", frame, 0) for frame in (0, -1, 1)}
    keys |= {("color", 0, 1), ("color", 0, 2)}
    return KITTIRAWDataset(folder, _lines(), 192, 640, (0, -1, 1), 3, is_train=True, keys=keys, **more)


def _items(folder):
    dataset, epochs = _dataset(folder), iter(range(1_000_000))

    def run():
        dataset.set_epoch(next(epochs))
        for index in range(len(dataset)):
            dataset[index]

    return run


def _cached_items(folder):
    """As `_items` from a cache in memory, with the arithmetic left to the training device."""
    try:
        from datasets.cache import FrameCache
    except ImportError:
        return None
    dataset, repeats = _dataset(folder, on_device=True), 20
    FrameCache.open("ram", dataset, quiet=True)

    def run():
        began = time.perf_counter()
        for _ in range(repeats):
            for index in range(len(dataset)):
                dataset[index]
        return (time.perf_counter() - began) / repeats

    return run


def step(settings):
    """Seconds and peak memory of a training step; each version in a process of its own, taken in turn."""
    from benchmarking.training_step import VERSIONS, StepProcess

    what = f"{settings.model} 640x192, batch {settings.batch}"
    versions = [version for version in VERSIONS if "compiled" not in version or settings.compile]
    with contextlib.ExitStack() as stack:
        processes = {}
        for version in versions:
            process = StepProcess(version, settings.model, settings.batch, 192, 640, settings.no_cuda)
            processes[version] = stack.enter_context(process)
        seconds = in_turn({version: process.step for version, process in processes.items()}, settings.rounds)
        answers = {version: process.answers[1:] for version, process in processes.items()}  # the first warmed up
    result = rows("step", what, "s", seconds)
    worked = {version: [each["cpu_seconds"] for each in given] for version, given in answers.items()}
    result += rows("step", what, "s of CPU", worked)
    peaks = {version: given[-1]["peak_gb"] for version, given in answers.items()}
    for version, peak in peaks.items():
        gain = None if version == "plain" else peaks["plain"] / peak
        result.append(Row("step", what, version, "GB peak", peak, peak, peak, gain))
    return result


def inference(settings):
    """Milliseconds of a forward pass to disparity, over models, sizes and batches."""
    import torch

    from networks import DepthDecoder, LiteMono
    from networks.folded import FoldedDepthNetwork
    from tests.plain import depth_network
    from training.precision import choose_device

    device = choose_device(settings.no_cuda)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    result = []
    for model, (height, width), batch in settings.forward_passes:
        torch.manual_seed(0)
        encoder = LiteMono(model, height, width).to(device).eval()
        decoder = DepthDecoder(encoder.num_ch_enc).to(device).eval()
        folded = FoldedDepthNetwork(encoder, decoder).to(device).eval()
        images = torch.rand(batch, 3, height, width, device=device)
        plain = depth_network.encode, depth_network.decode
        with torch.inference_mode(), torch.device(device):
            versions = {
                "plain": lambda e=encoder, d=decoder, x=images, p=plain: p[1](d, p[0](e, x)) and None,
                "folded": lambda f=folded, x=images: f(x) is None or None,
            }
            measured = in_turn(versions, settings.rounds, wait)
        result += rows("inference", f"{model} {width}x{height}, batch {batch}", "ms", measured, per=1000)
    return result


def cost(settings):
    """Parameters and multiply-adds of the four models at both sizes."""
    from evaluation.cost import network_cost
    from networks import DepthDecoder, LiteMono

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
    """Milliseconds of projecting one made-up scan of 120,000 points."""
    import numpy as np

    from kitti_utils import project_points
    from tests.plain.ground_truth import depth_map

    rng = np.random.default_rng(0)
    angle, lift = rng.uniform(-np.pi, np.pi, 120_000), rng.uniform(-0.4, 0.03, 120_000)
    reach = rng.uniform(4, 70, 120_000)
    points = np.stack((reach * np.cos(angle), reach * np.sin(angle), reach * lift, np.ones_like(reach)), 1)
    points = points.astype(np.float32)
    camera = np.array([[721.5, 0, 609.6, 0], [0, 721.5, 172.9, 0], [0, 0, 1, 0]])
    P = camera @ np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.27], [0, 0, 0, 1.0]])
    versions = {
        "plain": lambda: depth_map(points, P, *NATIVE) is None or None,
        "fast": lambda: project_points(points[points[:, 0] >= 0], P, *NATIVE, vel_depth=True) is None or None,
    }
    return rows("ground truth", "one scan", "ms", in_turn(versions, settings.rounds), per=1000)


def start_up(settings):
    """Seconds until `--help` has been printed."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

    def runner(script):
        words = [sys.executable, os.path.join(root, script), "--help"]
        return lambda: subprocess.run(words, check=True, capture_output=True) is None or None

    measured = in_turn({script: runner(script) for script in SCRIPTS}, settings.rounds)
    return [row for script in SCRIPTS for row in rows("start-up", "--help", "s", {script: measured[script]})]


PARTS = {"cost": cost, "start_up": start_up, "ground_truth": ground_truth, "loader": loader, "inference": inference,
         "step": step}  # fmt: skip
