"""Label a data set with the depth of a larger network, or of several, for train.py --pseudo_depth.

    python make_pseudo_depth.py --teacher lite-mono-8m_1024x320 --data_path DATA --split eigen_zhou --out LABELS
    python train.py --data_path DATA --pseudo_depth LABELS --pseudo_kind scale --pseudo_weight 0.1

A teacher is a weights folder of this program or a published name, an .onnx file of export_onnx.py, or a depth model of
Hugging Face: its folder, or owner/name. Several are averaged. What is there is not made again; under torchrun each
process labels its share.
"""

import sys

from options import DATASETS
from system.command_line import Parser, command


def parser():
    """Return the command line's parser."""
    made = Parser(prog="make_pseudo_depth.py", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--teacher", nargs="+", required=True, metavar="T",
        help="weights folder or published name, .onnx file, or Hugging Face model; several are averaged")  # fmt: skip
    add("--data_path", required=True, metavar="DIR", help="root of the data set")
    add("--dataset", default="kitti", choices=DATASETS, help="layout of the data")
    add("--split", default="eigen_zhou", help="a published split, or a folder with *_files.txt")
    add("--parts", nargs="+", default=["train"], choices=("train", "val", "test"), help="lists to label")
    Parser.flag(made, "png", help="read .png images instead of .jpg")
    add("--out", required=True, metavar="DIR", help="where the labels go, in folders like those of the data")
    Parser.flag(made, "no_flip", help="do not average with the prediction for the mirror image")
    Parser.flag(made, "no_cuda", help="stay on the CPU")
    add("--device", help="cpu, cuda, cuda:1 or mps; by default a GPU where there is one")
    return made


@command
def main(argv=None):
    """Run the command line."""
    opt = parser().parse_args(argv)
    from teaching.labelling import make_labels

    done = make_labels(opt)
    print(f"labels of kind {done['kind']}: {done['written']} written, {done['there']} were there, in {opt.out}")
    if done["sheet"]:
        print(f"contact sheet: {done['sheet']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
