"""Predict depth for images: single ones, folders of them, or those that a list names.

    python test_simple.py --load_weights_folder WEIGHTS --image_path IMAGE_OR_FOLDER
    python test_simple.py --onnx MODEL.onnx --image_path IMAGE_OR_FOLDER

Writes `<name>_disp.npy` (scaled disparity, network size) and `<name>_disp.jpeg` (its picture, the image's own size)
beside each image or into --output_dir; on request also depth at the image's own size.
"""

import sys

from inference.jobs import OUTPUT_MARK, find_jobs
from options import add_model_options
from system.command_line import Parser, command, positive, positive_number
from system.devices import choose_device

COARSE_LEVELS = 256  # a depth PNG of fewer different values than these loses much of the depth


def parser():
    """Return the command line's parser."""
    made = Parser(prog="test_simple.py", description=__doc__.splitlines()[0])
    made.add_argument("--image_path", required=True, nargs="+", metavar="PATH",
                      help="images, folders, patterns such as 'frames/*.png', or with --test list files")  # fmt: skip
    weights = made.add_mutually_exclusive_group(required=True)
    weights.add_argument("--load_weights_folder", metavar="WEIGHTS",
                      help="folder that holds encoder.pth and depth.pth, or a published name")  # fmt: skip
    weights.add_argument("--onnx", metavar="FILE", help="predict with a file of export_onnx.py, without torch")
    made.add_argument("--ext", help="ending of the images to take from a folder; without, jpg, or all if it has none")
    Parser.flag(made, "test", help="image_path is a text file that names one image a line")
    made.add_argument("--output_dir", metavar="DIR", help="where to write; without, beside each image")
    Parser.flag(made, "save_depth", help="also write depth as float32 .npy, at the image's own size")
    Parser.flag(made, "save_depth_png", help="also write depth as 16-bit PNG, times 256, at the image's own size")
    made.add_argument("--pred_depth_scale_factor", type=positive_number, default=1.0, metavar="SCALE",
                      help="multiplies the depth that is written: metres to one unit of the network's")  # fmt: skip
    made.add_argument("--batch_size", type=positive, default=1, help="images that go through the network together")
    add_model_options(made, from_weights=True)
    return made


@command
def main(argv=None):
    """Run the command line."""
    opt = parser().parse_args(argv)
    jobs = find_jobs(opt.image_path, opt.ext, opt.test, opt.output_dir)
    import inference

    if opt.onnx:
        device, predictor = "onnxruntime", inference.OnnxRunner(opt.onnx)
    else:
        device = choose_device(opt.no_cuda, opt.device)
        predictor = inference.Predictor(opt.load_weights_folder, opt.model, device, dilations=opt.dilations)
    images = "1 image" if len(jobs) == 1 else f"{len(jobs)} images"
    print(f"{predictor.model}, {predictor.width}x{predictor.height}, on {device}: {images}")
    depth = {"save_depth": opt.save_depth, "save_depth_png": opt.save_depth_png, "scale": opt.pred_depth_scale_factor}
    levels = inference.predict_files(jobs, predictor, **depth, batch_size=opt.batch_size, quiet=len(jobs) == 1)
    first = f"{jobs[0].output}{OUTPUT_MARK}.jpeg"
    print(f"written: {first}" + (f" and those of {len(jobs) - 1} more" if len(jobs) > 1 else ""))
    if levels is not None and levels < COARSE_LEVELS:
        print(f"a depth PNG has only {levels} different values, since the network's depth is relative: "
              "--pred_depth_scale_factor 30, about right for KITTI's weights, makes better use of it")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
