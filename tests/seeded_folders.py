"""Weights folders and KITTI trees in miniature, the same every time."""

import functools
import io

import numpy as np
import torch
from PIL import Image

from checkpointing.folders import save_networks
from networks import DepthDecoder, LiteMono
from tests import tiny_kitti
from tests.reference.seeded_weights import tensor_for

MODEL = "lite-mono-tiny"
HEIGHT, WIDTH = 64, 96


@functools.cache
def _filled(key, shape):
    return torch.from_numpy(tensor_for(key, shape))


def seeded_networks(model=MODEL, height=HEIGHT, width=WIDTH, dilations=None):
    """Return encoder and decoder in eval mode with the reference's weights."""
    encoder = LiteMono(model, height, width, dilations=dilations)
    decoder = DepthDecoder(encoder.num_ch_enc)
    for network in (encoder, decoder):
        network.load_state_dict({key: _filled(key, value.shape) for key, value in network.state_dict().items()})
        network.eval()
    return encoder, decoder


def write_weights(folder, model=MODEL, height=HEIGHT, width=WIDTH, change=None):
    """Write encoder.pth and depth.pth; `change(encoder, decoder)` may alter the networks before."""
    folder.mkdir(parents=True)
    encoder, decoder = seeded_networks(model, height, width)
    if change is not None:
        change(encoder, decoder)
    save_networks(folder, {"encoder": encoder, "depth": decoder}, height, width, False, encoder.dilations)
    return folder


def write_drive(root, frames=4, ending="jpg"):
    """Write the test drive with its scans and calibration below `root`; return root."""
    drive, day = root / tiny_kitti.TEST, root / tiny_kitti.TEST.split("/")[0]
    for part in ("image_02/data", "image_03/data", "velodyne_points/data"):
        (drive / part).mkdir(parents=True)
    (day / "calib_cam_to_cam.txt").write_text(tiny_kitti.CAMERA)
    (day / "calib_velo_to_cam.txt").write_text(tiny_kitti.VELODYNE)
    for frame in range(frames):
        for camera in (2, 3):
            with Image.open(io.BytesIO(tiny_kitti.png(frame, camera))) as image:
                image.save(drive / f"image_0{camera}/data/{frame:010d}.{ending}")
        (drive / f"velodyne_points/data/{frame:010d}.bin").write_bytes(tiny_kitti.scan(frame))
    return root


def write_test_list(folder, lines=None):
    """Write a split folder whose test list names three images of the drive."""
    folder.mkdir(parents=True)
    lines = lines or [f"{tiny_kitti.TEST} {frame} l" for frame in (1, 3, 0)]
    (folder / "test_files.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def picture(height, width):
    """Return a smooth (H, W, 3) uint8 picture."""
    y, x = np.mgrid[:height, :width]
    bands = [127 + 120 * np.sin(x / 17), 127 + 120 * np.cos(y / 11), 2 * x + y]
    return np.stack(bands, -1).clip(0, 255).astype(np.uint8)
