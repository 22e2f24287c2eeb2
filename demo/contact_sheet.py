"""A sheet of pictures: image, disparity before and after training, and the error against the ground truth.

    python -m demo.contact_sheet --data_path DATA --split SPLIT --before WEIGHTS --after WEIGHTS --model NAME --out PNG
"""

import sys

import numpy as np
from PIL import Image, ImageDraw

from datasets import KITTIRAWDataset
from datasets.splits import resolve_split
from evaluation.ground_truth import ground_truth_path
from evaluation.ground_truth_file import load_ground_truth
from evaluation.metrics import MAX_DEPTH
from inference.colour import colour_disparity
from inference.predictor import Predictor
from layers import disp_to_depth
from options import add_model_options
from system.command_line import Parser, command, positive
from system.devices import choose_device
from system.errors import UserError
from system.files import write_image

ERROR_RANGE = 0.5  # relative error shown as the brightest colour
TITLES = ("image", "disparity before", "disparity after", "relative error after (black 0, bright 0.5)")


@command
def main(argv=None):
    """Write the sheet and say where it is."""
    parser = Parser(prog="-m demo.contact_sheet", description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", required=True, help="root of data in KITTI raw layout")
    parser.add_argument("--split", required=True, help="split with test frames and their ground truth")
    parser.add_argument("--before", required=True, help="weights folder before training")
    parser.add_argument("--after", required=True, help="weights folder after training")
    parser.add_argument("--frames", type=positive, default=6, help="test frames to show, evenly chosen")
    parser.add_argument("--out", required=True, help="the PNG to write")
    add_model_options(parser, from_weights=True)
    opt = parser.parse_args(argv)
    if not opt.out.lower().endswith(".png"):
        raise UserError("the sheet is a PNG", opt.out, "give a name that ends in .png")
    write_image(opt.out, sheet(opt))
    print(opt.out)
    return 0


def sheet(opt):
    """Return the sheet as a PIL image."""
    split = resolve_split(opt.split)
    lines = split.lines("test")
    truths = load_ground_truth(ground_truth_path(split))
    device = choose_device(opt.no_cuda, opt.device)
    before, after = (Predictor(each, opt.model, device, dilations=opt.dilations) for each in (opt.before, opt.after))
    chosen = np.linspace(0, len(lines) - 1, min(opt.frames, len(lines))).round().astype(int)
    data = KITTIRAWDataset(opt.data_path, lines, after.height, after.width, (0,), 1, keys=[("color", 0, 0)])
    rows = []
    for index in chosen:
        image = data[int(index)]["color", 0, 0][None]
        disparities = before.predict(image), after.predict(image)
        pictures = cells(image, *disparities, truths[int(index)], after.network.depth_range)
        rows.append(np.concatenate(pictures, 1))
    margin = 14
    width = rows[0].shape[1] // len(TITLES)
    result = Image.fromarray(np.concatenate([np.full((margin, rows[0].shape[1], 3), 255, np.uint8), *rows]))
    for column, title in enumerate(TITLES):
        ImageDraw.Draw(result).text((column * width + 4, 1), title, fill=(0, 0, 0))
    return result


def cells(image, before, after, truth, depth_range):
    """Return the pictures of one frame, (H, W, 3) uint8 each, from disparities (1, 1, H, W) and depth (h, w)."""
    import cv2

    scaled = disp_to_depth(after, *depth_range)[0][0, 0].cpu().numpy()
    depth = 1 / cv2.resize(scaled, truth.shape[::-1])
    known = (truth > 0) & (truth < MAX_DEPTH)
    error = np.zeros_like(truth)
    if known.any():
        depth *= np.median(truth[known]) / np.median(depth[known])
        error[known] = np.abs(depth[known] - truth[known]) / truth[known]
    height, width = scaled.shape
    points = cv2.dilate(error, np.ones((3, 3)))  # scans are sparse: points grow so that they can be seen
    shown = cv2.applyColorMap((np.clip(points / ERROR_RANGE, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    shown = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1]
    photo = (image[0].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return [photo, *(colour_disparity(each[0, 0].cpu().numpy()) for each in (before, after)), shown]


if __name__ == "__main__":
    sys.exit(main())
