"""Calls of prepare_kitti.py for the small KITTI of a local server, and what they leave behind."""

from pathlib import Path

import prepare_kitti
from kitti_utils import CALIBRATION
from tests import tiny_kitti
from tests.tiny_kitti import OTHER, TEST, TRAIN

ROOT = Path(__file__).resolve().parent.parent
STEPS = prepare_kitti.STEPS
SERVED = tiny_kitti.server_files()
TRAIN_ZIP = "2011_09_26_drive_0001_sync.zip"
TRAIN_PATH = f"/2011_09_26_drive_0001/{TRAIN_ZIP}"


def arguments(kitti_site, tmp_path, *more):
    return [
        "--data_path",
        str(tmp_path / "kitti"),
        "--split",
        str(tmp_path / "mini"),
        "--base_url",
        kitti_site.url,
        "--retries",
        "2",
        "--num_workers",
        "1",
        *more,
    ]


def prepare(kitti_site, tmp_path, *more):
    return prepare_kitti.main(arguments(kitti_site, tmp_path, *more))


def tree(tmp_path):
    """Every visible file below the KITTI folder."""
    top = tmp_path / "kitti"
    return sorted(
        str(path.relative_to(top))
        for path in top.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(top).parts)
    )


def images(folder, camera, frames, ending="jpg"):
    return [f"{folder}/image_0{camera}/data/{frame:010d}.{ending}" for frame in frames]


def complete():
    """What the split needs: own frames, neighbours as far as the drive goes, scans of the test frames."""
    return sorted(
        images(TRAIN, 2, (0, 1, 2, 3, 4, 5))
        + images(TRAIN, 3, (0, 1, 2, 3, 4, 5))
        + images(OTHER, 2, (0, 1, 2))
        + images(TEST, 2, (1, 3))
        + [f"{TEST}/velodyne_points/data/{frame:010d}.bin" for frame in (1, 3)]
        + [f"{date}/{name}" for date in ("2011_09_26", "2011_09_28") for name in CALIBRATION]
    )


def archive_names(tmp_path):
    return [name for name in tree(tmp_path) if name.startswith("archives/")]


def data_files(tmp_path):
    return [name for name in tree(tmp_path) if not name.startswith("archives/")]
