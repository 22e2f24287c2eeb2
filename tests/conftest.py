"""What several tests share: real frames where they are at hand, a tiny drive, reference figures, short runs."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
LONG = ("test_compile.py", "test_gpu_budgets.py", "test_pretrain.py", "test_cached_runs.py", "test_benchmark_gpu.py",
        "test_distributed.py")  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
os.environ["no_proxy"] = "127.0.0.1"  # where the servers of tests are


def pytest_configure():
    import torch

    torch.set_num_threads(1)  # the sums, and so the last bits, do not depend on the machine


def pytest_collection_modifyitems(items):
    """Let the longest tests begin, so that none is left to one process at the end while the others have nothing."""
    items.sort(key=lambda item: item.path.name not in LONG)  # files stay whole: their fixtures are made once


def _folder_of(variable, what):
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: it names {what}")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable} names no folder: {path}")
    return path


@pytest.fixture(scope="session")
def kitti_sample():
    """Folder of the real frames: kitti_raw, kitti_odom and splits/kitti_sample."""
    return _folder_of("KITTI_SAMPLE", "the folder with real KITTI frames")


@pytest.fixture(scope="session")
def published_reference():
    """Folder of reference files that the project may not hold, such as published weights."""
    return _folder_of("LITE_MONO_REFERENCE", "the folder with published weights")


@pytest.fixture(scope="session")
def reference():
    """Loader of stored figures: reference("pose.npz") -> {name: array}."""

    def load(name):
        with np.load(ROOT / "tests" / "reference" / name, allow_pickle=False) as figures:
            return {key: figures[key] for key in figures.files}

    return load


@pytest.fixture(scope="session")
def synthetic_drive(tmp_path_factory):
    """Data path of a tiny synthetic drive: 20 items to train on, 2 for validation, both cameras, scans."""
    from demo.street.__main__ import main

    out = tmp_path_factory.mktemp("drive")
    settings = {"drives": 1, "frames": 13, "width": 128, "height": 64, "samples": 1, "workers": 1}
    small = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["--out", str(out), *small]) == 0
    return out


@pytest.fixture
def short_run(synthetic_drive, tmp_path):
    """Arguments of a run on the tiny drive: short_run("--num_epochs", 2) -> list for train.main."""
    from tests.short_runs import arguments

    return lambda *more: arguments(synthetic_drive, tmp_path / "runs", *more)


@pytest.fixture
def threads_of_torch():
    """Function that sets the number of torch's threads for the time of the test."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights folder of a small network with seeded numbers."""
    from tests.seeded_folders import write_weights

    return write_weights(tmp_path_factory.mktemp("weights") / "weights_0")


@pytest.fixture
def tree(tmp_path):
    """A data path, and a split folder of three of its images."""
    from tests.seeded_folders import write_drive, write_test_list

    return write_drive(tmp_path / "kitti"), write_test_list(tmp_path / "three")


@pytest.fixture
def kitti_site():
    """A local server with the archives of a small KITTI."""
    from tests.http_site import Site
    from tests.kitti_preparation import SERVED

    with Site(SERVED) as running:
        yield running


@pytest.fixture
def kitti_split(tmp_path):
    """The folder of a split of that KITTI."""
    from tests.tiny_kitti import write_split

    return write_split(tmp_path / "mini")


@pytest.fixture(scope="session")
def three_classes(tmp_path_factory):
    """The folder of 12 training and 6 validation images of three classes, for pre-training."""
    from tests.shapes_and_textures import CLASSES, write_folder

    return write_folder(tmp_path_factory.mktemp("three"), train=4, val=2, classes=CLASSES[:3], size=40)


@pytest.fixture(scope="session")
def finished_run(three_classes, tmp_path_factory):
    """The folder of a finished pre-training run of two epochs with a moving average; tests leave it as it is."""
    from tests.pretraining import SMALL, main

    out = tmp_path_factory.mktemp("short") / "run"
    flags = ["--update_freq", "1", "--epochs", "2", "--model_ema", "--model_ema_eval", "--model_ema_decay", "0.5"]
    assert main([*SMALL, *flags, "--data_path", three_classes, "--output_dir", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium with a made-up camera."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser among {', '.join(BROWSERS)}: install Debian's chromium")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        opened = driver.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()
