"""The job of `benchmark.worker` that turns a video into training frames, with one worker thread or one a core."""

import tempfile
from types import SimpleNamespace

from datasets.frames_preparation.prepare import Settings
from datasets.frames_preparation.selection import Rules
from datasets.frames_preparation.sequences import write_sequences
from datasets.frames_preparation.sources import Video

VERSIONS = ("one worker thread", "one a core")


def make(version, video):
    """Return the function that prepares the video's frames, all of them, and the device."""
    keep_all = Rules(min_motion=0.0, max_motion=1e4, scene=-1.0, min_frames=1)
    settings = Settings(fov=81.0, fps=None, height=192, rules=keep_all, workers=1 if version == VERSIONS[0] else None)

    def prepare():
        with tempfile.TemporaryDirectory() as folder:
            write_sequences(Video(video), folder, settings, say=lambda line: None)

    return prepare, SimpleNamespace(type="cpu")
