"""Where frames come from: videos, decoded by FFmpeg through the package av, and folders of images."""

import os
import re

import numpy as np

from datasets.images import read_rgb
from system.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
INSTALL = "pip install -r requirements-video.txt"
EARLY = 0.9  # share of the announced length below which a video counts as cut off


class Video:
    """A video file. `frames` may be read once; `notices` then tells what was odd.

    Attributes:
        path: the file; length: seconds as announced, None where it is not, and rate: frames a second, once the first
        frame has been read; endless: false, unlike a camera.
    """

    endless = False

    def __init__(self, path):
        self.path, self.notices, self.length, self.rate = path, [], None, None

    def frames(self):
        """Yield (seconds since the first frame, (H, W, 3) uint8 RGB), upright as a player shows it.

        Raises:
            UserError: not a video, or one without pictures.
        """
        av = video_library()
        first, last = None, 0.0
        try:
            with av.open(self.path, metadata_errors="replace") as container:
                if not container.streams.video:
                    raise UserError("a file without pictures", self.path, "give a video")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                self.length = _seconds(stream, container, av)
                self.rate = float(stream.average_rate) if stream.average_rate else None
                converter = av.video.reformatter.VideoReformatter()  # a frame's own would begin anew with each
                for frame in container.decode(stream):
                    if first is None:
                        first = frame.time or 0.0
                    last = (frame.time if frame.time is not None else last) - first
                    image = converter.reformat(frame, format="rgb24").to_ndarray()
                    yield last, upright(image, frame.rotation)
        except av.FFmpegError as error:
            if first is None:
                reason = f"{self.path}: {error.strerror or error}"
                raise UserError("not a video, or a damaged one", reason, "copy it again or convert it") from None
            self.notices.append(f"damaged after {last:.1f} s: {error.strerror or error}")
        if first is None:
            raise UserError("a video without frames", self.path, "copy it again or convert it")
        if self.length and last < EARLY * self.length - 1 and not self.notices:
            self.notices.append(f"it ends after {last:.1f} of {self.length:.1f} s, as if cut off")


def _seconds(stream, container, av):
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def video_library():
    """Return the package av; raise `UserError` where it is not installed."""
    try:
        import av
    except ImportError:
        raise UserError("videos need the package av", "it is not installed", INSTALL) from None
    av.logging.set_level(None)
    return av


def upright(image, degrees):
    """Return an image turned by the rotation that a video's metadata tell (counterclockwise, as FFmpeg counts)."""
    return np.ascontiguousarray(np.rot90(image, round(degrees / 90) % 4))


class Folder:
    """A folder of images, in the order of their names with numbers read as numbers. Times count images."""

    def __init__(self, path):
        self.path, self.notices, self.length = path, [], None
        names = (name for name in os.listdir(path) if name.lower().endswith(IMAGE_ENDINGS) and name[0] != ".")
        self.names = sorted(names, key=lambda name: [(len(part), part) if part.isdigit() else (0, part)
                                                     for part in re.split(r"(\d+)", name)])  # fmt: skip
        if not self.names:
            raise UserError("a folder without images", path, f"give one with {', '.join(IMAGE_ENDINGS)} files")

    def frames(self):
        """Yield (number, (H, W, 3) uint8 RGB). Raises UserError: an image is damaged or of another size."""
        size = None
        for number, name in enumerate(self.names):
            path = os.path.join(self.path, name)
            image = np.asarray(read_rgb(path))
            size = size or image.shape
            if image.shape != size:
                which = f"{path}: {image.shape[1]}x{image.shape[0]} after {size[1]}x{size[0]}"
                raise UserError("images of different sizes in one folder", which, "give each size a folder of its own")
            yield float(number), image


def open_source(path):
    """Return the `Video` or `Folder` at a path. Raises UserError."""
    if os.path.isdir(path):
        return Folder(path)
    if not os.path.isfile(path):
        raise UserError("no such video or folder of images", path, "check the path")
    video_library()
    return Video(path)


def sampled(source, fps=None, every=1):
    """Yield the frames of a source thinned out in time.

    Args:
        fps: frames a second to keep of a video, by the frames' own times; folders of images are taken whole.
        every: instead, each so manyth frame; for videos and folders.
    """
    due = 0.0
    for number, (seconds, image) in enumerate(source.frames()):
        if fps and isinstance(source, Video):
            if seconds < due - 1e-3:
                continue
            due = max(due + 1 / fps, seconds + 0.5 / fps)  # half a period at least, where frames come unevenly
        elif number % every:
            continue
        yield seconds, image
