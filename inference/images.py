"""Images in, disparity and depth files out: reading, the networks' input, predicting files, writing their outputs."""

import os

import cv2
import numpy as np
from PIL import Image, ImageOps

from datasets import lanczos
from datasets.images import read_rgb, to_rgb
from inference.colour import DEFAULT_MAP, colour_disparity
from inference.jobs import DEPTH_MARK, OUTPUT_MARK
from system import files
from system.errors import UserError
from system.parallel import batched, map_in_order
from system.progress import Progress

DEPTH_PNG_UNITS = 256  # per metre, as in KITTI's depth maps


def predict_files(
    jobs, predictor, save_depth=False, save_depth_png=False, scale=1.0, batch_size=1, quiet=False,
    colour_map=DEFAULT_MAP, limits=None,
):  # fmt: skip
    """Predict every job's image and write its outputs, each file whole or not at all.

    Args:
        jobs: `inference.jobs.Job`s, as `find_jobs` returns them.
        predictor: an `inference.predictor.Predictor` or an `inference.onnx_runner.OnnxRunner`.
        save_depth: also write `<output>_depth.npy`, (h, w) float32, the image's own size.
        save_depth_png: also write `<output>_depth.png`, 16 bits, depth times 256, the image's own size.
        scale: multiplies the depth of these two.
        batch_size: images that go through the network together.
        quiet: no progress.
        colour_map, limits: of the pictures, limits are (nearest, farthest) depth times `scale`.

    Returns:
        The smallest number of different values in a depth PNG; None where none was written.

    Raises:
        UserError: an image is missing or damaged (named), an output cannot be written, a prediction is not finite.
    """
    def read(job):
        image = read_image(job.image)
        return job, image.size, network_values(image, predictor.height, predictor.width)

    def write(predicted):
        job, (width, height), disparity = predicted
        kinds = save_depth, save_depth_png
        return write_outputs(job.output, disparity, height, width, *kinds, scale, colour_map, limits)

    def predicted():
        for batch in batched(map_in_order(read, jobs), batch_size):
            some, sizes, values = zip(*batch, strict=True)
            disparities = predictor.scaled_disparity(np.concatenate(values))
            yield from zip(some, sizes, (each[None] for each in disparities), strict=True)

    levels = []
    with Progress("predicting", len(jobs), "images", quiet) as progress:
        for each in map_in_order(write, predicted()):
            levels.append(each)
            progress.advance()
    return min((each for each in levels if each is not None), default=None)


def read_image(path):
    """Return an image file as an upright 8-bit RGB PIL image; grey, palette, RGBA and 16-bit files are converted.

    Raises:
        UserError: the file is missing or damaged.
    """
    files.refuse_unless_regular(path, "give an image file")
    return ImageOps.exif_transpose(read_rgb(path))


def to_image(image):
    """Return an image as an upright 8-bit RGB PIL image.

    Args:
        image: a path, a PIL image, or an array (h, w), (h, w, 3) or (h, w, 4): uint8, or floats in [0, 1].

    Raises:
        UserError: the file is missing or damaged, or the array is no image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(to_rgb(image))
    values = np.asarray(image)
    shown = values[..., :3] if values.ndim == 3 and values.shape[2] == 4 else values
    is_image = values.size and (shown.ndim == 2 or (shown.ndim == 3 and shown.shape[2] == 3))
    if is_image and np.issubdtype(values.dtype, np.floating) and shown.min() >= 0 and shown.max() <= 1:
        shown = np.rint(255 * shown).astype(np.uint8)
    if not is_image or shown.dtype != np.uint8:
        raise UserError("not an image", f"an array {values.shape} of {values.dtype}",
                        "give (h, w, 3) of uint8, or of floats from 0 to 1")  # fmt: skip
    return Image.fromarray(shown).convert("RGB")


def network_values(image, height, width):
    """Return a PIL image as the networks take it: (1, 3, height, width) float32 in [0, 1], resized with Lanczos."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    values = np.ascontiguousarray(np.array(image).transpose(2, 0, 1)[None])
    return values.astype(np.float32) / np.float32(255)


def frame_values(frame, height, width):
    """As `network_values` of a video's frame, (H, W, 3) uint8: the same numbers in half the processor's time."""
    planes = np.stack(cv2.split(frame)).astype(np.float32)
    return lanczos.resize(planes, height, width)[None] / np.float32(255)


def write_outputs(
    output, disparity, height, width, save_depth=False, save_depth_png=False, scale=1.0,
    colour_map=DEFAULT_MAP, limits=None,
):  # fmt: skip
    """Write the outputs of one image.

    Args:
        output: path without endings.
        disparity: (1, 1, H, W) float32 scaled disparity in 1/metres.
        height, width: of the image that it was made from.
        save_depth, save_depth_png, scale, colour_map, limits: as `predict_files`.

    Returns:
        The number of different values in the depth PNG, None without one.
    """
    files.write_npy(f"{output}{OUTPUT_MARK}.npy", disparity)
    native = enlarge(disparity[0, 0], height, width)
    ends = (scale / limits[1], scale / limits[0]) if limits else None
    shown = colour_disparity(native, ends, colour_map)
    files.write_image(f"{output}{OUTPUT_MARK}.jpeg", Image.fromarray(shown), quality=95)
    depth = scale / native
    if save_depth:
        files.write_npy(f"{output}{DEPTH_MARK}.npy", depth)
    if not save_depth_png:
        return None
    levels = np.clip(np.rint(DEPTH_PNG_UNITS * depth), 0, 65535).astype(np.uint16)
    files.write_image(f"{output}{DEPTH_MARK}.png", Image.fromarray(levels))
    return len(np.unique(levels))


def enlarge(disparity, height, width):
    """Return (H, W) float32 resized bilinearly to (height, width), as the networks' own resizing does it."""
    for axis, size in enumerate((height, width)):
        length = disparity.shape[axis]
        position = np.maximum((np.arange(size) + 0.5) * (length / size) - 0.5, 0)  # of the outputs' centres
        first = position.astype(int)
        second = np.minimum(first + 1, length - 1)
        share = (position - first).astype(np.float32)
        share = share[:, None] if axis == 0 else share
        disparity = disparity.take(first, axis) * (1 - share) + disparity.take(second, axis) * share
    return disparity
