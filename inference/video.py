"""A video or a camera in, a video of its depth out: decoding, network, colouring and encoding side by side in threads.

Queues between them are short, so that memory does not grow with the length of a video (the index of an MP4 file does,
by some bytes a frame).
"""

import contextlib
import os
import time
from typing import NamedTuple

import numpy as np

from inference.arguments import LAYOUTS
from inference.colour import DEFAULT_MAP, SteadyRange, colour_by_table, colour_table
from inference.images import frame_values
from inference.video_file import partial_name, video_file
from system.command_line import noting_signals
from system.errors import UserError
from system.parallel import Consumer, ahead, batched
from system.progress import Progress

OVERLAY = 0.6  # share of the depth's colour in an overlay


class Look(NamedTuple):
    """What the frames of a depth video look like: one of `LAYOUTS`, a colour map's name, (near, far) depth or None."""

    layout: str = LAYOUTS[0]
    colour_map: str = DEFAULT_MAP
    limits: tuple | None = None

    def pictures(self, items):
        """Yield (seconds, picture (H, W, 3) uint8) of (seconds, frame (h, w, 3) uint8, disparity (H', W') float32)."""
        steady, table = SteadyRange(self.limits), colour_table(self.colour_map)
        for seconds, frame, disparity in items:
            low, high = steady.follow(disparity, seconds)
            yield seconds, self._composed(frame, colour_by_table(disparity, low, high, table, frame.shape[1::-1]))

    def _composed(self, frame, depth):
        if self.layout == "depth":
            return depth
        if self.layout == "overlay":
            import cv2

            return cv2.addWeighted(depth, OVERLAY, frame, 1 - OVERLAY, 0)
        sides = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2  # a seam between pixels of halved colour is not sharp
        axis = 1 if self.layout == "side_by_side" else 0
        return np.concatenate([each[: sides[0], : sides[1]] for each in (frame, depth)], axis)


class Made(NamedTuple):
    """A video that was written: its path, frames, frames a second on the way."""

    path: str
    frames: int
    rate: float


def predict_video(source, output, predictor, look=Look(), scale=1.0, batch_size=1, window=None, quiet=False):  # noqa: B008
    """Write the video of a source's depth.

    SIGINT or SIGTERM end the video with the frame at hand: the file is whole, then the signal has its way, but for
    cameras, whose videos end so.

    Args:
        source: a `Video`, or a `Camera`.
        output: path of the MP4 file.
        predictor: a `Predictor` or `OnnxRunner`.
        look: a `Look`; its limits are depth times `scale`.
        batch_size: frames that go through the network together.
        window: function (picture) -> whether to go on, called with each picture in this thread.

    Returns:
        `Made`.

    Raises:
        UserError: the source is unreadable; it is damaged on the way (what came before is then in
            <output>_partial.mp4); the video cannot be written.
    """
    shown = []

    def prepared():
        for seconds, frame in source.frames():
            yield seconds, frame, frame_values(frame, predictor.height, predictor.width)

    with contextlib.ExitStack() as stack:
        noted = stack.enter_context(noting_signals())
        writer = stack.enter_context(video_file(output))

        def write(items):
            with contextlib.closing(ahead(look.pictures(items), 2)) as pictures:
                for seconds, picture in pictures:
                    writer.rate = source.rate
                    writer.write(seconds, picture)
                    shown[:] = [picture]

        progress = stack.enter_context(Progress(os.path.basename(source.path), None, "frames", quiet))
        began = time.perf_counter()
        with contextlib.closing(ahead(prepared(), 4, lambda: bool(noted))) as frames, Consumer(write) as consumer:
            for batch in batched(frames, batch_size):
                times, images, values = zip(*batch, strict=True)
                if progress.total is None and source.length and source.rate:
                    progress.total = round(source.length * source.rate)
                disparities = predictor.scaled_disparity(np.concatenate(values))[:, 0] / np.float32(scale)
                for each in zip(times, images, disparities, strict=True):
                    consumer.give(each)
                    progress.advance()
                if noted or (window and shown and not window(shown[-1])):
                    break
        made = Made(output, writer.frames, writer.frames / (time.perf_counter() - began))
        if not writer.frames:
            noted.raise_again()
            raise UserError("no frame came", source.path, "give another video or camera")
        if source.notices and not noted:
            _keep_partial(writer, source, output)
    if noted:
        print(told(made), flush=True)
        if not source.endless:
            noted.raise_again()
    return made


def told(made):
    """Return the sentence about a video that was written."""
    return f"written: {made.path} ({made.frames} frames, {made.rate:.1f} frames a second)"


def _keep_partial(writer, source, output):
    """End the video under a name that says that it is not whole; raise the UserError."""
    writer.finish()
    partial = partial_name(output)
    os.replace(writer.path, partial)
    raise UserError("the video is damaged or cut off", f"{source.path}: {source.notices[-1]}",
                    f"copy it again; the {writer.frames} frames before are in {partial}")  # fmt: skip
