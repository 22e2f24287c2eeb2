"""Which images and videos a prediction is about, and what their outputs are called. Free of torch."""

import collections
import glob
import os
from typing import NamedTuple

from system import files
from system.errors import UserError

OUTPUT_MARK, DEPTH_MARK = "_disp", "_depth"  # what ends the names of our own pictures; never taken as input
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".3gp")


class Job(NamedTuple):
    """One image or video to predict: the file, and the path of its outputs without their endings."""

    image: str
    output: str


def is_video(path):
    """Whether a file's name is a video's."""
    return path.lower().endswith(VIDEOS)


def find_jobs(paths, ext=None, is_list=False, output_dir=None):
    """Return the `Job`s for images, videos, folders of images, patterns such as frames/*.png, or list files.

    A list file names one path a line, relative to the list's own folder. Images whose outputs would carry the same
    name keep their ending in it: a.jpg and a.png give a.jpg_disp.npy and a.png_disp.npy; with an output folder, images
    of the same name in different folders carry the folder's name too.

    Args:
        paths: one path, or several.
        ext: ending of the images to take from folders; without, .jpg, and all kinds where a folder has none of these.
        is_list: the paths are list files.
        output_dir: where outputs go; beside each image without.

    Raises:
        UserError: nothing is there, or an image of a list is missing.
    """
    images = []
    for path in map(os.path.expanduser, [paths] if isinstance(paths, str) else paths):
        images += _listed(path) if is_list else _found(path, ext)
    return _named(dict.fromkeys(images), os.path.expanduser(output_dir) if output_dir else None)


def _found(path, ext):
    if os.path.isdir(path):
        return _in_folder(path, ext)
    if os.path.exists(path):
        files.refuse_unless_regular(path, "give an image or a video file")
        return [path]
    matching = sorted(glob.glob(path)) if glob.has_magic(path) else []
    images = [name for name in matching if os.path.isfile(name) and not _is_output(os.path.basename(name))]
    if images:
        return images
    if path.isdigit():
        raise UserError("a camera's number where an image is expected", path, f"give --camera {path}")
    raise UserError("no such image, video or folder", path, "check --image_path")


def _in_folder(folder, ext):
    names = [name for name in sorted(os.listdir(folder)) if not _is_output(name)]
    names = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    wanted = ("." + (ext or "jpg").lstrip(".").lower(),)
    chosen = [name for name in names if name.lower().endswith(wanted)]
    if not chosen and ext is None:
        stems = {os.path.splitext(name)[0] for name in names}
        chosen = [name for name in names if name.lower().endswith(ENDINGS) and not _is_depth_of(name, stems)]
    if not chosen:
        kinds = sorted({os.path.splitext(name)[1].lower() for name in names} & set(ENDINGS))
        fix = f"it has {' '.join(kinds)}: give --ext {kinds[0][1:]}" if kinds else "choose another folder or --ext"
        raise UserError(f"no {wanted[0]} images in the folder", folder, fix)
    return [os.path.join(folder, name) for name in chosen]


def _is_output(name):
    return os.path.splitext(name)[0].endswith(OUTPUT_MARK) or files.is_partial(name)


def _is_depth_of(name, stems):
    """Whether a name is that of the depth map that we wrote beside another image of these stems."""
    stem = os.path.splitext(name)[0]
    return stem.endswith(DEPTH_MARK) and stem.removesuffix(DEPTH_MARK) in stems


def _listed(path):
    fix = "with --test give a text file of one image path a line"
    files.refuse_unless_regular(path, fix)
    text = files.read_text(path, ("not a list of images", fix), ("no such list file", fix))
    names = [line.strip() for line in text.split("\n")]
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
