"""From one source to sequences of images on disk: decode, straighten and scale, compare, choose, write.

Decoding is FFmpeg's, with threads of its own; the other steps run in threads too, so that all cores work.
"""

import collections
import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from datasets.frames_preparation.geometry import Geometry
from datasets.frames_preparation.selection import CUT, DROP, Tally
from datasets.frames_preparation.sources import sampled
from datasets.motion import change, small_grey
from system.errors import UserError
from system.parallel import available_cores, map_in_order
from system.progress import Progress

JPEG = {"format": "JPEG", "quality": 92, "subsampling": "4:2:0"}  # as the images behind the published results


def write_sequences(source, folder, settings, say=print):
    """Write the sequences of a source into a folder, as 000/frames/000000.jpg and so on, and report what was dropped.

    Args:
        source: `Video` or `Folder`.
        settings: `prepare.Settings`.

    Returns:
        (camera of the frames, lengths of the sequences)

    Raises:
        UserError: the source cannot be read, or holds no frame worth keeping.
    """
    tally, workers = Tally(), settings.workers or available_cores()
    reader = _Reader(source, settings)
    with contextlib.ExitStack() as stack:
        total = len(getattr(source, "names", ())) or None
        progress = stack.enter_context(Progress(os.path.basename(source.path), total, "frames"))
        sequences = stack.enter_context(contextlib.closing(_Sequences(folder, settings.rules.min_frames, workers)))
        kept = None
        for seconds, image, grey, before, step in progress.over(reader.compared_frames(workers)):
            tally.read += 1
            if kept is not None:
                step = step if before is kept else change(kept, grey)
                tally.motions.append(step.motion)
                fate, why = settings.rules.judge(step)
                if fate == DROP:
                    tally.dropped[why] += 1
                    continue
                if fate == CUT:
                    tally.cuts.append((why, seconds))
                    sequences.end()
            kept = grey
            sequences.add(image)
        sequences.end()
    tally.kept = sum(sequences.lengths)
    if sequences.lost:
        tally.dropped[f"in sequences of fewer than {settings.rules.min_frames} frames"] = sequences.lost
    for line in tally.lines(source.path, len(sequences.lengths), reader.geometry.notices + source.notices):
        say(line)
    if not sequences.lengths:
        raise UserError("no frame worth keeping", source.path, _advice(tally, settings.rules.min_frames))
    return reader.geometry.camera, sequences.lengths


def _advice(tally, min_frames):
    if tally.dropped["too little motion"] > tally.read / 2:
        return "the camera stands still; give a video that moves, or lower --min_motion"
    return f"give a longer video, more frames a second (--fps, --every), or lower --min_frames {min_frames}"


class _Reader:
    """Frames of a source as they are to be written, with the change from each to the next."""

    def __init__(self, source, settings):
        self.source, self.settings, self.geometry = source, settings, None

    def compared_frames(self, workers):
        """Yield (seconds, frame, its small grey image, that of the frame before or None, `Change` or None)."""
        made = map_in_order(self._make, self._read(), workers)
        return map_in_order(self._compare, self._with_previous(made), workers)

    def _read(self):
        settings = self.settings
        for seconds, image in sampled(self.source, settings.fps, settings.every or 1):
            size = (image.shape[1], image.shape[0])
            if self.geometry is None:
                self.geometry = Geometry(*size, settings.camera, settings.fov, settings.crop, settings.height,
                                         settings.camera_file)  # fmt: skip
            if size != self.geometry.size:
                which = f"{self.source.path} at {seconds:.1f} s"
                raise UserError("the size of the frames changes", which, "cut the video there")
            yield seconds, image

    def _make(self, task):
        seconds, image = task
        image = self.geometry.apply(image)
        return seconds, image, small_grey(image)

    @staticmethod
    def _with_previous(frames):
        before = None
        for seconds, image, grey in frames:
            yield seconds, image, grey, before
            before = grey

    @staticmethod
    def _compare(task):
        *_, grey, before = task
        return *task, None if before is None else change(before, grey)


class _Sequences:
    """Writes frames in threads, numbers them and their sequences, and takes away sequences that stay too short."""

    def __init__(self, folder, least, workers):
        self.folder, self.least, self.lengths, self.lost, self._length = folder, least, [], 0, 0
        self._pool, self._waiting, self._most = ThreadPoolExecutor(workers), collections.deque(), 4 * workers

    def _home(self):
        return os.path.join(self.folder, f"{len(self.lengths):03d}")

    def add(self, image):
        """Append a frame to the sequence."""
        frames = os.path.join(self._home(), "frames")
        os.makedirs(frames, exist_ok=True)
        while len(self._waiting) >= self._most:
            self._waiting.popleft().result()
        path = os.path.join(frames, f"{self._length:06d}.jpg")
        self._waiting.append(self._pool.submit(Image.fromarray(image).save, path, **JPEG))
        self._length += 1

    def end(self):
        """End the sequence; the next frame begins another."""
        while self._waiting:
            self._waiting.popleft().result()
        if self._length >= self.least:
            self.lengths.append(self._length)
        elif self._length:
            shutil.rmtree(self._home())
            self.lost += self._length
        self._length = 0

    def close(self):
        """Stop writing."""
        self._pool.shutdown(cancel_futures=True)
