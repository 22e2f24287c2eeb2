"""The body of calibrate_scale.py: images through a network, one factor a known thing, stored with the weights."""

import math
import os

import numpy as np

from checkpointing.fetched import weights_folder
from checkpointing.folders import describe
from checkpointing.metric_scale import write_metric_scale
from datasets.frames_layout import read_depth
from evaluation import scale
from evaluation.ground_truth_file import load_ground_truth
from inference.images import read_image
from inference.intrinsics import Intrinsics
from inference.jobs import find_jobs
from inference.predictor import Predictor
from system.devices import choose_device
from system.errors import UserError
from system.parallel import map_in_order
from system.progress import Progress

MAPS = (".png", ".npz")
LARGE_SPREAD = 0.15  # relative: above, one factor for all images is a rough thing


def calibrate(opt, depth=None):
    """Find the factor that options of calibrate_scale.py ask for, and store it.

    Args:
        opt: the command's namespace.
        depth: function (image path, PIL image) -> (h, w) float32 instead of the weights' prediction.

    Returns:
        (the `MetricScale`, path of the file written, number of images looked at).

    Raises:
        UserError: inputs that are missing or do not match; no image tells the scale.
    """
    folder = weights_folder(opt.load_weights_folder)
    if opt.baseline and not opt.right_path:
        found = _of_training(opt, folder)
        return found, write_metric_scale(folder, found), 1
    if not opt.image_path:
        raise UserError("no images to calibrate with", "--image_path is missing", "give images of the camera")
    images = [job.image for job in find_jobs(opt.image_path, opt.ext, output_dir="")]
    intrinsics = Intrinsics(opt.camera_file, opt.fov, folder)
    measure, method = _way(opt, images, intrinsics)
    if depth is None:
        predictor = Predictor(folder, opt.model, choose_device(opt.no_cuda, opt.device), dilations=opt.dilations)

        def depth(path, image):
            return predictor.depth(image)

    factors = []
    with Progress("calibrating", len(images), "images", len(images) == 1) as progress:
        for index, image in enumerate(map_in_order(read_image, images)):
            factors.append(measure(index, image, depth(images[index], image)))
            progress.advance()
    found = scale.combined(factors, method)
    return found, write_metric_scale(folder, found), len(images)


def told(found, count):
    """Return the lines that tell people about a factor from `count` images."""
    lines = [f"one unit is {found.factor:.4g} metres ({found.method})"]
    if found.images < count:
        lines.append(f"{count - found.images} of {count} images do not tell and are left out")
    if found.spread is not None:
        lines.append(f"from image to image it varies by {found.spread:.1%} (robust standard deviation)")
        if found.spread > LARGE_SPREAD:
            lines.append("that is much: depth in metres will be as uncertain")
    return lines


def _of_training(opt, folder):
    if not describe(folder, opt.model).state.get("use_stereo"):
        raise UserError("weights that were not trained with stereo pairs have no unit that is known",
                        f"--baseline {opt.baseline:g}", "give pairs: --image_path LEFT --right_path RIGHT")  # fmt: skip
    factor = scale.by_training_baseline(opt.baseline)
    return scale.combined([factor], f"trained with stereo pairs of a baseline of {opt.baseline:g} m")


def _way(opt, images, intrinsics):
    """Return (function (index, image, predicted) -> factor, the method in words)."""

    def camera(index, image):
        return intrinsics.camera(images[index], *image.size)

    if opt.pixel:
        if len(images) > 1:
            raise UserError("distances of pixels belong to one image", f"{len(images)} images", "give that image alone")

        def measure(index, image, predicted):
            seen_by = None if opt.along_axis else camera(index, image)
            return scale.by_pixels(predicted, seen_by, opt.pixel, opt.along_axis)

        return measure, f"{len(opt.pixel)} pixels of known distance"
    if opt.camera_height:
        pitch = math.radians(opt.camera_pitch or 0)

        def measure(index, image, predicted):
            return scale.by_camera_height(predicted, camera(index, image), opt.camera_height, pitch)

        return measure, f"the camera {opt.camera_height:g} m above the road"
    if opt.ground_truth:
        truths = _maps(opt.ground_truth, images)
        return (lambda index, image, predicted: scale.by_map(predicted, truths(index))), "maps of true depth"
    rights = [job.image for job in find_jobs(opt.right_path, opt.ext, output_dir="")]
    if len(rights) != len(images):
        raise UserError("left and right images differ in number", f"{len(images)} and {len(rights)}", "give pairs")

    def measure(index, image, predicted):
        right = read_image(rights[index])
        if right.size != image.size:
            raise UserError("left and right image differ in size", rights[index], "give rectified pairs")
        seen_by = camera(index, image)
        return scale.by_stereo(predicted, seen_by, np.asarray(image), np.asarray(right), opt.baseline)

    return measure, f"stereo pairs of a baseline of {opt.baseline:g} m"


def _maps(path, images):
    """Return a function index -> true depth: of a folder of maps named as the images, or a gt_depths.npz."""
    if not os.path.isdir(path):
        truths = load_ground_truth(path)
        if len(truths) != len(images):
            raise UserError("images and true depths differ in number", f"{len(images)} and {len(truths)}",
                            "give the images in the order of the file")  # fmt: skip
        return truths.__getitem__
    stems = [os.path.splitext(os.path.basename(image))[0] for image in images]
    found = [next((each for each in (os.path.join(path, stem + end) for end in MAPS) if os.path.isfile(each)), None)
             for stem in stems]  # fmt: skip
    if not any(found):
        raise UserError("no maps of true depth", path, f"name them as the images: {stems[0]}.png, or .npz")
    return lambda index: read_depth(found[index]) if found[index] else np.zeros((1, 1), np.float32)
