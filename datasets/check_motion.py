"""What a network will see of prepared videos: motion between frames, a sheet of examples, warnings of what is odd."""

import collections
import os

import numpy as np
from PIL import Image

from datasets.cameras import judged
from datasets.frames_layout import CAMERA_FILE, sequence_camera
from datasets.images import read_rgb
from datasets.motion import OTHER_SCENE, change, plane_share, small_grey
from system import files
from system.parallel import map_in_order

TRIPLETS = 60  # looked at, spread evenly
SHOWN = 8  # of them on the sheet
TILE = 320  # pixels, the width of a picture on the sheet
STILL, TURNING = 0.5, 0.97  # pixels of motion; share of the flow that a homography explains
BRIGHTER = 1.25  # ratio of mean brightness that counts as a jump
OFTEN = 0.3  # share of the triplets from which on something is worth a warning

Look = collections.namedtuple("Look", "motion likeness plane brightness")


def check_motion(dataset, sheet):
    """Print motion statistics and warnings of a `FramesDataset`, and write a contact sheet.

    Args:
        dataset: the training data.
        sheet: PNG file to write: the frame before, the frame, the frame after, and what differs between the first two,
            which is the error of a frame warped by no motion at all.
    """
    offsets = [frame for frame in dataset.frame_idxs if frame not in (0, "s")]
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(TRIPLETS, len(dataset))).astype(int)).tolist()
    if not offsets or not chosen:
        return
    looks, rows = [], []
    shown = set(chosen[:: max(1, len(chosen) // SHOWN)][:SHOWN])
    for index, frames in zip(chosen, map_in_order(lambda index: _frames(dataset, index, offsets), chosen), strict=True):
        looks += [_look(frames[0], frames[offset]) for offset in offsets]
        if index in shown:
            rows.append(_row(frames, offsets))
    motions = np.array([look.motion for look in looks])
    low, middle, high = np.percentile(motions, (5, 50, 95))
    print(f"motion: median {middle:.1f} pixels of images 640 wide, 90 % of pairs between {low:.1f} and {high:.1f} "
          f"({len(looks)} pairs)")  # fmt: skip
    for warning in (*_camera_warnings(dataset), *_motion_warnings(looks)):
        print(f"warning: {warning}")
    files.write_image(sheet, Image.fromarray(np.concatenate(rows)))
    print(f"contact sheet (before, frame, after, difference to before): {sheet}")


def _frames(dataset, index, offsets):
    """Return {offset: RGB image} of a line and its neighbours."""
    paths = {offset: dataset.image_path(*dataset.frame_of(index, offset)) for offset in (0, *offsets)}
    return {offset: np.asarray(read_rgb(path)) for offset, path in paths.items()}


def _look(frame, neighbour):
    first, second = small_grey(frame), small_grey(neighbour)
    step = change(first, second)
    means = sorted((first.mean() + 1, second.mean() + 1))
    return Look(step.motion, step.likeness, plane_share(first, second), means[1] / means[0])


def _row(frames, offsets):
    earlier, later = min(offsets), max(offsets)
    pictures = [_tile(frames[each]) for each in (earlier, 0, later)]
    difference = 2 * np.abs(pictures[1].astype(int) - pictures[0])  # twice, to be seen
    return np.concatenate([*pictures, np.minimum(difference, 255).astype(np.uint8)], 1)


def _tile(image):
    height = max(1, round(image.shape[0] * TILE / image.shape[1]))
    return np.asarray(Image.fromarray(image).resize((TILE, height), Image.Resampling.BILINEAR))


def _camera_warnings(dataset):
    told = set()
    for folder in dataset.folders():
        camera = sequence_camera(dataset.data_path, folder)
        told |= {f"{notice} ({folder})" for notice in judged(camera, os.path.join(folder, CAMERA_FILE))}
        shape, wanted = camera.width / camera.height, dataset.width / dataset.height
        if camera.height > camera.width:
            told.add(f"portrait frames, {camera.width}x{camera.height} ({folder}): crop them, or train upright sizes "
                     "such as --width 224 --height 576")  # fmt: skip
        if not 0.6 < shape / wanted < 1.6:
            told.add(f"frames of {camera.width}x{camera.height} are squeezed to {dataset.width}x{dataset.height} "
                     f"({folder}): choose --width and --height of their shape")  # fmt: skip
    return sorted(told)[:10]


def _motion_warnings(looks):
    def share(happens):
        return sum(map(happens, looks)) / len(looks)

    still, jumps = share(lambda look: look.motion < STILL), share(lambda look: look.brightness > BRIGHTER)
    turning = share(lambda look: look.motion >= STILL and look.plane > TURNING)
    other = share(lambda look: look.likeness < OTHER_SCENE)
    if still > OFTEN:
        yield f"the camera stands still in {still:.0%} of the pairs: raise --frame_stride, or leave these frames out"
    if turning > OFTEN:
        yield f"the camera only turns, or sees a plane, in {turning:.0%} of the pairs: no depth is learned from these"
    if jumps > OFTEN / 3:
        yield f"brightness jumps in {jumps:.0%} of the pairs: fix the exposure, or leave them out"
    if other > OFTEN / 3:
        yield f"frames are unlike their neighbours in {other:.0%} of the pairs: scene changes, or too low --fps"
