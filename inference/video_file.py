"""Writing H.264 in MP4 that browsers play, by PyAV: whole or not at all. Free of torch.

Colours are BT.709 in limited range, 4:2:0; the index stands at the front. Frames carry their own times.
"""

import contextlib
import errno
import os
from fractions import Fraction

import numpy as np

from datasets.frames_preparation.sources import video_library
from system import files
from system.errors import UserError, from_os_error

TIME_BASE = Fraction(1, 90000)
LARGEST = (4096, 2304)  # width and height of H.264's level 5.1, which browsers' decoders know
# A fifth of the processor's time of x264's preset veryfast at crf 20, at the same PSNR, for files a fifth larger.
QUALITY = {"preset": "ultrafast", "crf": "23", "x264-params": "deblock=0,0"}
# One colour of each 2x2 pixels: three quarters of the time, and nearer to decoded frames, whose colours were so halved.
HALVING = "POINT"
BT709, LIMITED = 1, 1  # FFmpeg's numbers


@contextlib.contextmanager
def video_file(path):
    """Yield a `VideoWriter`; on a clean exit the video takes the name `path`, otherwise it vanishes.

    Raises:
        UserError: the package av or its H.264 encoder is missing, or the file cannot be written.
    """
    with files.replacing(path) as file:
        writer = VideoWriter(file.name, path)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.finish()


class VideoWriter:
    """Frames into one video file.

    Args:
        path: where to write; shown_path: what errors call it.

    Attributes:
        frames: number written. rate: frames a second as announced, which may be set before the first.
    """

    def __init__(self, path, shown_path):
        self._av = video_library()
        self.path, self.shown_path, self.frames = path, shown_path, 0
        self.rate = None
        self._stream, self._last, self._converter = None, -1, None
        with self._errors():
            self._container = self._av.open(path, "w", format="mp4", options={"movflags": "+faststart"})

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except self._av.FFmpegError as error:
            known = error.errno if error.errno in errno.errorcode else errno.EIO
            raise from_os_error(OSError(known, error.strerror or str(error)), self.shown_path) from error

    def write(self, seconds, image):
        """Add a picture (H, W, 3) uint8, shown at `seconds`; all have one size, odd ones lose a row or column."""
        image = np.ascontiguousarray(_fitting(image))
        with self._errors():
            if self._stream is None:
                self._rate = Fraction(self.rate if self.rate and 0.1 < self.rate < 1000 else 30).limit_denominator(1001)
                self._stream = self._container.add_stream(_encoder(self._av), rate=self._rate, options=dict(QUALITY))
                self._stream.height, self._stream.width = image.shape[:2]
                self._stream.pix_fmt = "yuv420p"
                context = self._stream.codec_context
                context.time_base = TIME_BASE
                context.colorspace = context.color_primaries = context.color_trc = BT709
                context.color_range = LIMITED
                self._converter = self._av.video.reformatter.VideoReformatter()  # a frame's own would begin anew
            frame = self._av.VideoFrame.from_numpy_buffer(image, format="rgb24")
            matrix = {"dst_colorspace": "ITU709", "interpolation": HALVING}
            frame = self._converter.reformat(frame, format="yuv420p", **matrix)
            self._last = max(round(seconds / TIME_BASE), self._last + 1)
            frame.pts, frame.time_base = self._last, TIME_BASE
            self._mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self):
        """Write what the encoder still holds, and the index."""
        with self._errors():
            if self._stream is not None:
                self._mux(self._stream.encode())
            self._container.close()

    def _mux(self, packets):
        for packet in packets:  # a duration counts for the last frame only, others last until the next
            packet.duration = packet.duration or round(1 / self._rate / packet.time_base)
            self._container.mux(packet)

    def abandon(self):
        """Let go of the file."""
        with contextlib.suppress(self._av.FFmpegError, OSError, ValueError):
            self._container.close()


def _fitting(image):
    """Return the image scaled down to the largest size there is, where need be, with even sides."""
    height, width = image.shape[:2]
    scale = min(1, LARGEST[0] / width, LARGEST[1] / height)
    if scale < 1:
        import cv2

        image = cv2.resize(image, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
        height, width = image.shape[:2]
    return image[: max(2, height // 2 * 2), : max(2, width // 2 * 2)]


def _encoder(av):
    """Return the name of an H.264 encoder of this FFmpeg that runs on every machine."""
    for name in ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf"):
        if name in av.codecs_available:
            return name
    raise UserError("this FFmpeg has no H.264 encoder", f"av {av.__version__}", "pip install --force-reinstall av")


def partial_name(path):
    """Return what a video is called that ends where its source was damaged: x_disp.mp4 -> x_disp_partial.mp4."""
    stem, ending = os.path.splitext(path)
    return f"{stem}_partial{ending}"
