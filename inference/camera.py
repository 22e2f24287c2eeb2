"""Frames from a camera of this machine, by OpenCV, and a window to show pictures in."""

import os
import re
import sys
import time

from system.errors import UserError

LOST = 50  # failed reads in a row after which a camera counts as gone
_KEYS_TO_END = (27, ord("q"))  # escape


class Camera:
    """A camera by its number, 0 the first. `frames` goes on until it is closed; each frame is the newest.

    Attributes:
        path: what to call it; endless: true.

    Raises:
        UserError: there is no such camera, or another program holds it.
    """

    endless = True

    def __init__(self, number):
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self.path, self.notices, self.length, self.rate = f"camera{number}", [], None, None
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise UserError("no such camera, or it is in use", f"--camera {number}",
                            "check that it is connected; 0 is the first")  # fmt: skip

    def frames(self):
        """Yield (seconds since the first frame, (H, W, 3) uint8 RGB)."""
        first, failures = None, 0
        try:
            while failures < LOST:
                there, image = self._capture.read()
                if not there:
                    failures += 1
                    time.sleep(0.02)
                    continue
                now, failures = time.monotonic(), 0
                first = now if first is None else first
                yield now - first, image[..., ::-1].copy()
            if first is None:
                raise UserError("the camera gives no picture", self.path, "connect it again, or give another number")
            self.notices.append("it gives no more pictures")
        finally:
            self._capture.release()


def open_window(title):
    """Return a function (picture (H, W, 3) uint8) -> whether to go on; q or escape end it.

    Raises:
        UserError: no window can be opened here.
    """
    import cv2

    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        fix = "leave it out, or pip uninstall opencv-python-headless and pip install opencv-python"
        raise UserError("this OpenCV opens no windows", "--display", fix)
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("there is no screen here", "--display: DISPLAY is not set", "leave --display out")

    def show(picture):
        cv2.imshow(title, picture[..., ::-1])
        return cv2.waitKey(1) & 0xFF not in _KEYS_TO_END

    return show
