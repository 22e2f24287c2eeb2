"""Export trained weights to one file that other engines run: ONNX, OpenVINO, torch.export; or to a web page.

    python export_onnx.py --load_weights_folder WEIGHTS --out model.onnx

The graph takes `image`, float32 (1, 3, H, W), RGB in [0, 1], and gives `disparity`, float32 (1, 1, H, W), scaled
disparity in 1/metres as test_simple.py writes it; options change that. Every file is checked against torch first.
"""

import argparse
import sys

from networks.model_table import MODELS
from options import dilation_list
from system.command_line import Parser, command, positive, positive_number

FORMATS = ("onnx", "openvino", "torch", "torchscript")
PRECISIONS = ("float32", "float16", "int8")


def parser():
    """Return the command line's parser."""
    made = Parser(prog="export_onnx.py", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--load_weights_folder", required=True, default=argparse.SUPPRESS,
        help="folder that holds encoder.pth and depth.pth, or a published name")  # fmt: skip
    add("--out", metavar="FILE", help="file to write: .onnx, .xml (OpenVINO, with a .bin beside it), .pt2 or .pt")
    add("--web", metavar="DIR", help="also, or instead, write a static web page that runs the model")
    add("--format", default="onnx", choices=FORMATS, help="kind of file")
    add("--precision", default="float32", choices=PRECISIONS, help="of weights and feature maps")
    add("--height", type=positive, help="of the network's image, a multiple of 32; default: as the weights say")
    add("--width", type=positive, help="as --height")
    graph = made.add_argument_group("what goes in and out")
    graph.add_argument("--input", default="float", choices=("float", "uint8"),
                       help="float: (1, 3, H, W) in [0, 1]; uint8: (1, H, W, 3), 0 to 255")  # fmt: skip
    Parser.flag(graph, "resize", help="take images of any size and resize them inside (bilinear, antialiased)")
    Parser.flag(graph, "any_size", help="run at the image's own size, any multiples of 32")
    Parser.flag(graph, "any_batch", help="take any number of images at a time")
    Parser.flag(graph, "depth", help="give depth in metres instead of disparity")
    graph.add_argument(
        "--metric_scale", type=positive_number, default=1.0, help="metres per unit of the network's depth"
    )
    graph.add_argument("--opset", type=int, default=20, help="version of ONNX's operators, 18 to 23")
    images = made.add_argument_group("images of your own")
    images.add_argument("--images", metavar="DIR", help="the check uses some of them, int8 is calibrated on them")
    images.add_argument(
        "--calibration_images", type=positive, default=32, help="how many of them, spread over the folder"
    )
    images.add_argument(
        "--limit", type=float, default=0.02, help="largest mean relative change of depth by float16 or int8"
    )
    Parser.flag(images, "force", help="write a precision that is beyond the limit")
    add("--onnxruntime_web", default="node_modules/onnxruntime-web", metavar="DIR",
        help="where npm installed the package that the page runs on")  # fmt: skip
    add("--model", choices=list(MODELS), help="which Lite-Mono model; default: what the weights are")
    add("--dilations", type=dilation_list, metavar="D", help="of the three stages, instead of those of the weights")
    return made


@command
def main(argv=None):
    """Run the command line."""
    opt = parser().parse_args(argv)
    from exporting.export import export

    export(opt)
    return 0


if __name__ == "__main__":
    sys.exit(main())
