"""The job of `benchmark.worker` that predicts a video: the network alone, frame by frame, or with all around it."""

import os
import tempfile

import numpy as np

from datasets.frames_preparation.sources import Video
from demo.street import Drive, Rig
from inference.predictor import Predictor
from inference.video import predict_video
from inference.video_file import video_file
from system.devices import choose_device

VERSIONS = ("network alone", "video to video")
FRAMES, SIZE = 60, (375, 1242)  # (height, width) of a KITTI frame
RENDERED = 16  # frames of a drive, shown forwards and backwards: noise of made-up pictures would flatter no encoder


def write_video(path):
    """Write a video of a drive through the synthetic street."""
    drive = Drive(1, RENDERED, Rig(SIZE[1], SIZE[0]), samples=1)
    pictures = [drive.picture(number) for number in range(RENDERED)]
    pictures += pictures[-2:0:-1]
    with video_file(path) as writer:
        writer.rate = 10
        for number in range(FRAMES):
            writer.write(number / 10, pictures[number % len(pictures)])


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
