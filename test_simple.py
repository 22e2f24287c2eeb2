"""Predict depth for images: one, a folder of them, or those that a list names.

    python test_simple.py --load_weights_folder WEIGHTS --image_path IMAGE_OR_FOLDER

Writes `<name>_disp.npy` (scaled disparity, network size) and `<name>_disp.jpeg` (its picture, the image's own size)
beside each image or into --output_dir; on request also depth at the image's own size.
"""

import collections
import os
import sys
from typing import NamedTuple

import numpy as np

from checkpointing.published import weights_folder
from options import add_model_options
from system import files
from system.command_line import Parser, command
from system.errors import UserError

OUTPUT_MARK = "_disp"  # what ends the names of our own pictures; never taken as input
DEPTH_PNG_UNITS = 256  # per metre, as in KITTI's depth maps
COLOUR_PERCENTILE = 95  # disparity shown with the brightest colour: a few near pixels must not darken the rest


class Job(NamedTuple):
    """One image to predict: the file, and the path of its outputs without their endings."""

    image: str
    output: str


@command
def main(argv=None):
    """Run the command line."""
    opt = parser().parse_args(argv)
    jobs = find_jobs(opt.image_path, opt.ext, opt.test, opt.output_dir)
    folder = weights_folder(opt.load_weights_folder)
    from inference.predictor import Predictor, choose_device

    device = choose_device(opt.no_cuda)
    predictor = Predictor(folder, opt.model, device, dilations=opt.dilations)
    print(f"{opt.model}, {predictor.width}x{predictor.height}, on {device}: {len(jobs)} image(s)")
    predict_files(jobs, predictor, opt.save_depth, opt.save_depth_png, quiet=len(jobs) == 1)
    first = f"{jobs[0].output}{OUTPUT_MARK}.jpeg"
    print(f"written: {first}" + (f" and those of {len(jobs) - 1} more" if len(jobs) > 1 else ""))
    return 0


def parser():
    """Return the command line's parser."""
    made = Parser(prog="test_simple.py", description=__doc__.splitlines()[0])
    made.add_argument("--image_path", required=True, help="an image, a folder of images, or with --test a list file")
    made.add_argument("--load_weights_folder", required=True,
                      help="folder that holds encoder.pth and depth.pth, or a published name")  # fmt: skip
    made.add_argument("--ext", default="jpg", help="ending of the images to take from a folder")
    Parser.flag(made, "test", help="image_path is a text file that names one image a line")
    made.add_argument("--output_dir", help="where to write; default: beside each image")
    Parser.flag(made, "save_depth", help="also write depth as float32 .npy, at the image's own size")
    Parser.flag(made, "save_depth_png", help="also write depth as 16-bit PNG, times 256, at the image's own size")
    add_model_options(made)
    return made


# ------------------------------------------------------------------------------------------------ which images


def find_jobs(image_path, ext="jpg", is_list=False, output_dir=None):
    """Return the `Job`s for an image, a folder, or a list file (one path a line, relative to the list's own folder).

    Images whose outputs would carry the same name keep their ending in it: a.jpg and a.png give a.jpg_disp.npy and
    a.png_disp.npy; with an output folder, images of the same name in different folders carry the folder's name too.

    Raises:
        UserError: nothing is there, or an image of the list is missing.
    """
    image_path = os.path.expanduser(image_path)
    if is_list:
        images = _listed(image_path)
    elif os.path.isdir(image_path):
        ending = "." + ext.lstrip(".").lower()
        names = sorted(name for name in os.listdir(image_path) if name.lower().endswith(ending))
        images = [os.path.join(image_path, name) for name in names if not _is_output(name)]
        if not images:
            raise UserError(f"no {ending} images in the folder", image_path, "choose another folder or --ext")
    elif os.path.isfile(image_path):
        images = [image_path]
    else:
        raise UserError("no such image or folder", image_path, "check --image_path")
    return _named(images, os.path.expanduser(output_dir) if output_dir else None)


def _is_output(name):
    return os.path.splitext(name)[0].endswith(OUTPUT_MARK) or files.is_partial(name)


def _listed(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file]
    except UnicodeDecodeError:
        raise UserError("not a list of images", path, "with --test give a text file of one image path a line") from None
    except FileNotFoundError:
        raise UserError("no such list file", path, "with --test give a text file of one image path a line") from None
    folder = os.path.dirname(path)
    images = []
    for number, name in enumerate(names, 1):
        candidates = [os.path.join(folder, os.path.expanduser(name)), os.path.expanduser(name)]
        found = next((each for each in candidates if os.path.isfile(each)), None)
        if name and found is None:
            raise UserError("no such image", f"{path} line {number}: {name}", "correct the list")
        if name:
            images.append(found)
    if not images:
        raise UserError("the list names no image", path, "write one image path a line")
    return list(dict.fromkeys(images))


def _named(images, output_dir):
    """Give every image the shortest output that no other shares: its stem, with ending, with folder, with a number."""

    def where(image, name):
        return os.path.join(output_dir if output_dir is not None else os.path.dirname(image), name)

    def forms(image):
        folder, base = os.path.split(os.path.abspath(image))
        yield where(image, os.path.splitext(base)[0])
        yield where(image, base)
        yield where(image, f"{os.path.basename(folder)}_{base}")

    chosen = {image: next(forms(image)) for image in images}
    for level in (1, 2):
        taken = collections.Counter(map(_key, chosen.values()))
        for image in [image for image, output in chosen.items() if taken[_key(output)] > 1]:
            chosen[image] = list(forms(image))[level]
    used = set()
    for image, output in chosen.items():
        number, free = 1, output
        while _key(free) in used:
            number, free = number + 1, f"{output}_{number + 1}"
        used.add(_key(free))
        chosen[image] = free
    return [Job(image, output) for image, output in chosen.items()]


def _key(output):
    return os.path.normcase(os.path.abspath(output))


# ------------------------------------------------------------------------------------------------ prediction


def predict_files(jobs, predictor, save_depth=False, save_depth_png=False, quiet=False):
    """Predict every job's image and write its outputs, each file whole or not at all.

    Args:
        jobs: `Job`s, as `find_jobs` returns them.
        predictor: an `inference.predictor.Predictor`.
        save_depth: also write `<output>_depth.npy`, (h, w) float32, the image's own size.
        save_depth_png: also write `<output>_depth.png`, 16 bits, depth times 256, the image's own size.
        quiet: no progress.

    Raises:
        UserError: an image is missing or damaged (named), or an output cannot be written.
    """
    from layers import disp_to_depth
    from system.parallel import map_in_order
    from system.progress import Progress

    def read(job):
        image = read_image(job.image)
        return job, image.size, network_input(image, predictor.height, predictor.width)

    def write(predicted):
        job, (width, height), disparity = predicted
        write_outputs(job.output, disparity, height, width, save_depth, save_depth_png)

    def predicted():
        for job, size, tensor in map_in_order(read, jobs):
            scaled, _ = disp_to_depth(predictor.predict(tensor), *predictor.network.depth_range)
            yield job, size, scaled.float().cpu().numpy()

    with Progress("predicting", len(jobs), "images", quiet) as progress:
        for _ in map_in_order(write, predicted()):
            progress.advance()


def read_image(path):
    """Return an image file as an upright 8-bit RGB PIL image; grey, palette, RGBA and 16-bit files are converted.

    Raises:
        UserError: the file is missing or damaged.
    """
    from PIL import ImageOps

    from datasets.images import read_rgb

    return ImageOps.exif_transpose(read_rgb(path))


def network_input(image, height, width):
    """Return a PIL image as the networks take it: (1, 3, height, width) float32 in [0, 1], resized with Lanczos."""
    import torch
    from PIL import Image

    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    values = np.ascontiguousarray(np.array(image).transpose(2, 0, 1))
    return torch.from_numpy(values)[None].float() / 255


def write_outputs(output, disparity, height, width, save_depth=False, save_depth_png=False):
    """Write the outputs of one image.

    Args:
        output: path without endings.
        disparity: (1, 1, H, W) float32 scaled disparity in 1/metres.
        height, width: of the image that it was made from.
        save_depth, save_depth_png: as `predict_files`.
    """
    from PIL import Image

    files.write_npy(f"{output}{OUTPUT_MARK}.npy", disparity)
    native = enlarge(disparity[0, 0], height, width)
    files.write_image(f"{output}{OUTPUT_MARK}.jpeg", colourise(native), quality=95)
    if save_depth:
        files.write_npy(f"{output}_depth.npy", 1 / native)
    if save_depth_png:
        levels = np.clip(np.rint(DEPTH_PNG_UNITS / native), 0, 65535).astype(np.uint16)
        files.write_image(f"{output}_depth.png", Image.fromarray(levels))


def enlarge(disparity, height, width):
    """Return (H, W) float32 resized bilinearly to (height, width), as the networks' own resizing does it."""
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(disparity)[None, None], (height, width), mode="bilinear", align_corners=False
    )
    return resized[0, 0].numpy()


def colourise(disparity):
    """Return a PIL picture of (H, W) disparity: matplotlib's magma from the minimum to the 95th percentile."""
    from matplotlib import colormaps
    from PIL import Image

    low, high = float(disparity.min()), float(np.percentile(disparity, COLOUR_PERCENTILE))
    unit = (disparity - low) / (high - low) if high > low else np.zeros_like(disparity)
    return Image.fromarray(colormaps["magma"](unit, bytes=True)[..., :3])


if __name__ == "__main__":
    sys.exit(main())
