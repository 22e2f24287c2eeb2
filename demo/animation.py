"""An animated picture of a drive: each frame above the disparity predicted for it.

    python -m demo.animation --images FOLDER --load_weights_folder WEIGHTS --out GIF
"""

import os
import sys

import numpy as np
from PIL import Image

from inference import Predictor
from options import add_model_options
from system.command_line import Parser, command, positive
from system.devices import choose_device
from system.errors import UserError
from system.files import replacing

COLOURS = 96  # of the GIF's palette
FRAME_MILLISECONDS = 100


@command
def main(argv=None):
    """Write the animation and say where it is."""
    parser = Parser(prog="-m demo.animation", description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, metavar="FOLDER", help="frames in the order of their names")
    parser.add_argument("--load_weights_folder", required=True, metavar="WEIGHTS", help="folder or published name")
    parser.add_argument("--ext", default="jpg", help="ending of the frames")
    parser.add_argument("--frames", type=positive, default=40, help="frames to show, from the first on")
    parser.add_argument("--width", type=positive, default=400, help="width of the picture in pixels")
    parser.add_argument("--out", required=True, metavar="GIF", help="the file to write")
    add_model_options(parser, from_weights=True)
    opt = parser.parse_args(argv)
    if not opt.out.lower().endswith(".gif"):
        raise UserError("the animation is a GIF", opt.out, "give a name that ends in .gif")
    ending = "." + opt.ext.lstrip(".").lower()
    names = sorted(os.listdir(opt.images)) if os.path.isdir(opt.images) else []
    paths = [os.path.join(opt.images, name) for name in names if name.lower().endswith(ending)][: opt.frames]
    if not paths:
        raise UserError(f"no {ending} frames", opt.images, "give a folder of frames, or another --ext")

    device = choose_device(opt.no_cuda, opt.device)
    write(opt.out, paths, Predictor(opt.load_weights_folder, opt.model, device, dilations=opt.dilations), opt.width)
    print(opt.out)
    return 0


def write(out, paths, predictor, width):
    """Write the frames of `paths` and their disparity, coloured alike over the whole drive."""
    photos, disparities = [], []
    for path in paths:
        photo = Image.open(path).convert("RGB")
        disparities.append(predictor.disparity(photo))
        photos.append(photo.resize((width, round(width * photo.height / photo.width)), Image.Resampling.LANCZOS))
    limits = np.percentile([np.percentile(each, (1, 97)) for each in disparities], 50, axis=0)
    frames = [above(photo, painted(disparity, *limits)) for photo, disparity in zip(photos, disparities, strict=True)]
    palette = Image.fromarray(np.concatenate([np.array(frame) for frame in frames[:: max(1, len(frames) // 8)]]))
    palette = palette.quantize(COLOURS)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(out) as file:
        indexed[0].save(file, "GIF", save_all=True, append_images=indexed[1:], duration=FRAME_MILLISECONDS, loop=0)


def painted(disparity, low, high):
    """Return (h, w) disparity as a magma picture, dark at `low` and bright at `high`."""
    from matplotlib import colormaps

    unit = np.clip((disparity - low) / max(high - low, 1e-9), 0, 1)
    return Image.fromarray(colormaps["magma"](unit, bytes=True)[..., :3])


def above(photo, picture):
    """Return one picture above another, the lower one at the upper one's size."""
    result = Image.new("RGB", (photo.width, 2 * photo.height))
    result.paste(photo, (0, 0))
    result.paste(picture.resize(photo.size), (0, photo.height))
    return result


if __name__ == "__main__":
    sys.exit(main())
