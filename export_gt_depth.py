"""Make the ground-truth depth of a split's test images: python export_gt_depth.py --data_path DATA --split eigen"""

import sys

from system.command_line import Parser, command, positive
from system.errors import UserError
from system.files import refuse_as_output


def parser():
    """Return the command line's parser."""
    result = Parser(prog="export_gt_depth.py", description="Write the ground-truth depth of a split's test images.")
    result.add_argument("--data_path", required=True, help="root of KITTI raw, with scans and calibration")
    result.add_argument("--split", required=True, help="eigen, eigen_benchmark (improved maps) or a split folder")
    result.add_argument("--output", help="file to write (default: gt_depths.npz in the split's folder)")
    result.add_argument("--num_workers", type=positive, help="threads (default: one per core)")
    Parser.flag(result, "camera_depth", help="depth in the camera's frame, not the velodyne's forward distance")
    return result


@command
def main(argv=None):
    """Run the command line; returns the exit code."""
    options = parser().parse_args(argv)
    from datasets.splits import resolve_split
    from evaluation.ground_truth import build
    from evaluation.ground_truth_file import load_ground_truth

    split = resolve_split(options.split)
    if options.output and not options.output.endswith(".npz"):
        raise UserError("the output is no .npz file", options.output, "give a name that ends in .npz")
    refuse_as_output(options.output, (".npz",), "--output")
    path = build(
        options.data_path,
        split,
        camera_depth=options.camera_depth,
        output=options.output,
        workers=options.num_workers,
    )
    depths = load_ground_truth(path, split.lines("test"))
    print(f"{path}: {len(depths)} images")


if __name__ == "__main__":
    sys.exit(main())
