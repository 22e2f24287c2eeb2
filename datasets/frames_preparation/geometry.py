"""What happens to each frame of a source, the same for all: straightened, cropped, scaled once. And its camera."""

import cv2
import numpy as np

from datasets import cameras
from system.errors import UserError


class Geometry:
    """The way from a source's frames to training frames.

    Args:
        width, height: of the source's frames.
        camera: a `Camera` of such frames, or None with `fov`.
        fov: horizontal field of view in degrees, a rough stand-in for a camera.
        crop: (left, top, width, height) of the straightened frames, or None.
        target: height that frames are scaled to; smaller ones stay as they are.
        which: the camera file, for messages.

    Attributes:
        camera: of the frames that come out; notices: what is odd about it.

    Raises:
        UserError: the camera cannot be one of these frames, or the crop leaves them.
    """

    def __init__(self, width, height, camera, fov, crop, target, which):
        self.maps, self.crop = None, crop
        if camera is None:
            camera, self.notices = cameras.from_fov(fov, width, height), [f"a guessed camera, from --fov {fov:g}"]
        else:
            camera, self.notices = cameras.fitted(camera, width, height, which)
        if camera.is_distorted():
            camera, *maps = cameras.undistortion(camera)
            self.maps = cv2.convertMaps(*maps, cv2.CV_16SC2)
        if crop:
            left, top, wide, high = crop
            if left + wide > width or top + high > height:
                raise UserError("--crop leaves the frames", f"{left} {top} {wide} {high} of {width}x{height}",
                                "give left top width height in pixels")  # fmt: skip
            camera = camera.cropped(*crop)
        if camera.height > target:
            camera = camera.resized(max(2, round(camera.width * target / camera.height / 2) * 2), target)
        self.camera, self.size = camera, (width, height)

    def apply(self, image):
        """Return a frame (H, W, 3) uint8 as it is to be written."""
        if self.maps:
            image = cv2.remap(image, *self.maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        if self.crop:
            left, top, width, height = self.crop
            image = image[top : top + height, left : left + width]
        size = (self.camera.width, self.camera.height)
        if size != image.shape[1::-1]:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(image)
