"""The options of prepare_frames.py as settings, and the last word: how to train."""

import os
import shlex

from datasets.camera_files import read_camera
from datasets.frames_layout import sequence_camera
from datasets.frames_preparation.prepare import Settings, prepare
from datasets.frames_preparation.selection import Rules
from datasets.splits import parse_line, resolve_split

TRAINED_PIXELS = 640 * 192  # of the published models
STEP = 32  # network sizes are multiples of this


def run(options):
    """Prepare what the options of prepare_frames.py ask for, and print the command that trains on it."""
    rules = Rules(options.min_motion, options.max_motion, options.scene_change, options.min_frames)
    fps = None if options.every else options.fps or 10.0
    print(f"taking {f'each frame of {options.every}' if options.every else f'{fps:g} frames a second'}; dropping below "
          f"{rules.min_motion:g}, cutting above {rules.max_motion:g} pixels of motion, "
          f"cutting where frames are less alike than {rules.scene:g}")  # fmt: skip
    settings = Settings(
        camera=read_camera(options.camera) if options.camera else None,
        camera_file=options.camera,
        fov=options.fov,
        fps=fps,
        every=options.every,
        crop=tuple(options.crop) if options.crop else None,
        height=options.height,
        rules=rules,
        workers=options.num_workers,
    )
    margin = max((abs(frame) for frame in options.frame_ids), default=1) * options.frame_stride
    prepare(options.inputs, options.out, settings, {"val": options.val_share, "test": options.test_share}, margin)
    width, height = training_size(options.out)
    data = shlex.quote(options.out)
    training = f"python train.py --dataset frames --data_path {data} --split {data}"
    training += f" --frame_stride {options.frame_stride}" if options.frame_stride > 1 else ""
    print(f"check it:  {training} --check_data")
    print(f"train:     {training} --width {width} --height {height}")


def training_size(data):
    """Return (width, height) in multiples of 32 near the frames' shape, with about as many pixels as 640x192."""
    line = parse_line(resolve_split(os.path.abspath(data)).lines("train")[0])
    camera = sequence_camera(data, line.folder)
    shape = camera.width / camera.height
    height = max(STEP, round((TRAINED_PIXELS / shape) ** 0.5 / STEP) * STEP)
    return max(STEP, round(height * shape / STEP) * STEP), height
