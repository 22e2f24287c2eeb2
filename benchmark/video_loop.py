"""The job of `benchmark.worker` that predicts a video: the network alone, frame by frame, or with all around it."""

import os
import tempfile

import numpy as np

from datasets.frames_preparation.sources import Video
from inference.predictor import Predictor
from inference.video import predict_video
from inference.video_file import video_file
from system.devices import choose_device

VERSIONS = ("network alone", "video to video")
FRAMES, SIZE = 60, (375, 1242)  # (height, width) of a KITTI frame


def write_video(path):
    """Write a video whose picture moves."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (SIZE[0] // 15 + 1, SIZE[1] // 9 + 1, 3), dtype=np.uint8)
    picture = coarse.repeat(15, 0).repeat(9, 1)[: SIZE[0], : SIZE[1]]
    with video_file(path) as writer:
        for number in range(FRAMES):
            writer.write(number / 10, np.roll(picture, 3 * number, 1))


def make(version, weights, video, no_cuda):
    """Return the function that predicts `FRAMES` frames, and the device."""
    device = choose_device(no_cuda)
    predictor = Predictor(weights, device=device)
    values = np.random.default_rng(0).random((1, 3, predictor.height, predictor.width), np.float32)

    def alone():
        for _ in range(FRAMES):
            predictor.scaled_disparity(values)

    def whole():
        with tempfile.TemporaryDirectory() as folder:
            predict_video(Video(video), os.path.join(folder, "out.mp4"), predictor, quiet=True)

    return (alone if version == VERSIONS[0] else whole), device
