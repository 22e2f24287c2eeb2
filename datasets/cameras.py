"""Pinhole cameras: adjusted to crops and sizes, straightened, judged.

Pixels of the images at hand; pixel centres are integers from 0, as OpenCV and this project count them (COLMAP counts
the first centre as 0.5). Distortion is Brown's model with OpenCV's coefficients k1, k2, p1, p2, k3: with
x = X / Z, y = Y / Z, r^2 = x^2 + y^2 and d = 1 + k1 r^2 + k2 r^4 + k3 r^6 the image shows the point at
(x d + 2 p1 x y + p2 (r^2 + 2 x^2), y d + p1 (r^2 + 2 y^2) + 2 p2 x y).
"""

import dataclasses
import math

import numpy as np

from system.errors import UserError

NAMES = ("fx", "fy", "cx", "cy")
ZOOM = 1.01  # step in which a straightened image is narrowed
EDGE = 0.5  # pixels beyond the middle of the outermost ones, to where an image reaches
ASPECT_TOLERANCE = 0.01  # relative: sizes of one camera that differ in scale only


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera: focal lengths and principal point in pixels of images of width x height (None: not told)."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int | None = None
    height: int | None = None
    distortion: tuple = ()
    baseline: float | None = None  # metres to the right camera of a stereo pair

    def matrix(self):
        """Return K, (3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def normalised(self):
        """Return the (4, 4) float32 intrinsics of training items: rows divided by width and height."""
        K = np.eye(4, dtype=np.float64)
        K[:3, :3] = self.matrix()
        K[0] /= self.width
        K[1] /= self.height
        return K.astype(np.float32)

    def is_distorted(self):
        """Whether lines in the world are curves in the image."""
        return any(self.distortion)

    def resized(self, width, height):
        """Return the camera of the images resized to width x height; their corners stay corners."""
        x, y = width / self.width, height / self.height
        centre = {"cx": (self.cx + 0.5) * x - 0.5, "cy": (self.cy + 0.5) * y - 0.5}
        return dataclasses.replace(self, fx=self.fx * x, fy=self.fy * y, width=width, height=height, **centre)

    def cropped(self, left, top, width, height):
        """Return the camera of the part that begins at pixel (left, top)."""
        return dataclasses.replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def as_dict(self):
        """Return what our JSON form holds."""
        told = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return told | {"distortion": list(self.distortion)}


def from_fov(degrees, width, height):
    """Return the camera with this horizontal field of view, square pixels and a central principal point."""
    focal = width / 2 / math.tan(math.radians(degrees) / 2)
    return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)


# --- undistortion --------------------------------------------------------------------------------------------------


def undistortion(camera):
    """Return what removes a camera's distortion.

    Returns:
        (the camera of the straightened images, map_x, map_y); the maps, (H, W) float32, tell for each new pixel where
        it lies in the distorted image (as cv2.remap takes them). Every new pixel lies inside the old image.
    """
    import cv2

    size, K, D = (camera.width, camera.height), camera.matrix(), np.array(camera.distortion, dtype=np.float64)
    K_new, _ = cv2.getOptimalNewCameraMatrix(K, D, size, 0)
    while not _sees_only_the_image(camera, K_new):  # OpenCV looks at a few points of the border only
        K_new[0, 0], K_new[1, 1] = ZOOM * K_new[0, 0], ZOOM * K_new[1, 1]
    map_x, map_y = cv2.initUndistortRectifyMap(K, D, None, K_new, size, cv2.CV_32FC1)
    entries = {"fx": K_new[0, 0], "fy": K_new[1, 1], "cx": K_new[0, 2], "cy": K_new[1, 2]}
    straight = dataclasses.replace(camera, distortion=(), **{name: float(value) for name, value in entries.items()})
    return straight, map_x, map_y


def _sees_only_the_image(camera, K_new):
    """Whether the border of the straightened image lies inside the distorted one."""
    x, y = np.meshgrid((np.arange(camera.width) - K_new[0, 2]) / K_new[0, 0],
                       (np.arange(camera.height) - K_new[1, 2]) / K_new[1, 1], sparse=True)  # fmt: skip
    k1, k2, p1, p2, k3 = camera.distortion
    for edge_x, edge_y in ((x, y[:1]), (x, y[-1:]), (x[:, :1], y), (x[:, -1:], y)):
        r2 = edge_x**2 + edge_y**2
        d = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        u = camera.fx * (edge_x * d + 2 * p1 * edge_x * edge_y + p2 * (r2 + 2 * edge_x**2)) + camera.cx
        v = camera.fy * (edge_y * d + p1 * (r2 + 2 * edge_y**2) + 2 * p2 * edge_x * edge_y) + camera.cy
        right, bottom = camera.width - 1 + EDGE, camera.height - 1 + EDGE
        if u.min() < -EDGE or v.min() < -EDGE or u.max() > right or v.max() > bottom:
            return False
    return True


# --- judging -------------------------------------------------------------------------------------------------------


def fitted(camera, width, height, which):
    """Return (the camera for images of width x height, notices).

    Raises:
        UserError: it cannot be the camera of such images; `which` names its file.
    """
    notices = []
    if camera.width and (camera.width, camera.height) != (width, height):
        own = f"{camera.width}x{camera.height}"
        if abs(camera.width * height / (camera.height * width) - 1) > ASPECT_TOLERANCE:
            fix = "crop the images as the calibration's were, or calibrate at this size"
            raise UserError(f"a camera of {own} images for images of {width}x{height}", which, fix)
        notices.append(f"the camera is one of {own} images: scaled to {width}x{height}")
        camera = camera.resized(width, height)
    camera = dataclasses.replace(camera, width=width, height=height)
    return camera, notices + judged(camera, which)


def judged(camera, which):
    """Return notices about a camera of known size that is odd.

    Raises:
        UserError: no camera is like this.
    """
    values = {name: getattr(camera, name) for name in NAMES}
    text = ", ".join(f"{name} {value:g}" for name, value in values.items())
    told = f"{which}: {text} for {camera.width}x{camera.height}"

    def refuse(what, fix):
        raise UserError(what, told, fix)

    if not all(map(math.isfinite, (*values.values(), *camera.distortion))):
        refuse("a camera whose numbers are not finite", "write the calibration again")
    if camera.fx <= 0 or camera.fy <= 0:
        refuse("a focal length that is not positive", "give fx and fy in pixels")
    x, y = camera.cx / camera.width, camera.cy / camera.height
    if not (0 < x < 1 and 0 < y < 1):
        refuse("a principal point outside the image", "give cx and cy in pixels of these images")
    if camera.fx < 5 and camera.fy < 5:
        refuse("focal lengths in units of the image's size", "multiply fx, cx by the width and fy, cy by the height")
    if abs(x - 0.5) > 0.2 and abs(y - 0.5) > 0.2 and abs(x - y) < 0.05:
        refuse("a camera in pixels of another size", f"multiply all four by about {0.5 / x:.2f}")
    if not 0.25 < camera.fx / camera.fy < 4:
        refuse("focal lengths that differ too much", "check fx and fy; pixels of real cameras are nearly square")
    _check_distortion(camera, refuse)
    notices = []
    if not 0.8 < camera.fx / camera.fy < 1.25:
        notices.append(f"pixels are far from square (fx / fy is {camera.fx / camera.fy:.2f})")
    if max(abs(x - 0.5), abs(y - 0.5)) > 0.15:
        notices.append(f"the principal point is far from the middle ({x:.0%}, {y:.0%} of the image)")
    degrees = math.degrees(2 * math.atan(camera.width / 2 / camera.fx))
    if not 15 < degrees < 130:
        notices.append(f"an unusual field of view, {degrees:.0f} degrees")
    return notices


def _check_distortion(camera, refuse):
    if not camera.is_distorted():
        return
    k1, k2, _, _, k3 = camera.distortion
    corner = max(
        math.hypot((x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy)
        for x in (0, camera.width - 1)
        for y in (0, camera.height - 1)
    )
    r = np.linspace(0, corner, 200)
    if (1 + 3 * k1 * r**2 + 5 * k2 * r**4 + 7 * k3 * r**6 <= 0).any():
        refuse("a distortion that folds the image", "check k1 k2 p1 p2 k3; calibrate wide lenses with more pictures")
