"""Bring KITTI raw from its server (or from archives that are here already) to the form that the splits need.

    python prepare_kitti.py --data_path kitti_data --split eigen_zhou eigen

Every step does only what is left to do and can be run alone; a run that was broken off goes on where it stopped.
Archives live in DATA/archives, where they may also be put by hand.
"""

import sys

from datasets.preparation import kitti_drives
from system.command_line import Parser, command, positive
from system.errors import UserError

STEPS = ("download", "unpack", "convert", "ground_truth", "verify")


def parser():
    """Return the command line's parser."""
    made = Parser(prog="prepare_kitti.py", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--data_path", required=True, metavar="DIR", help="the KITTI folder; made when missing")
    add("--split", nargs="+", default=["eigen_zhou", "eigen"], metavar="SPLIT",
        help="published splits, or folders with *_files.txt")  # fmt: skip
    add("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=f"any of {', '.join(STEPS)}")
    add("--base_url", default=kitti_drives.BASE_URL, metavar="URL", help="where the archives are")
    add("--frame_ids", nargs="+", type=int, default=[0, -1, 1], metavar="N",
        help="the frames beside each training frame, as in train.py")  # fmt: skip
    Parser.flag(made, "use_stereo", help="also the other camera of every training frame")
    add("--lidar", nargs="*", choices=("train", "val", "test"), default=["test"], metavar="PART",
        help="the parts (train, val, test) that get LiDAR scans; none when given alone")  # fmt: skip
    Parser.flag(made, "png", help="use the images as PNG: the convert step does nothing")
    Parser.flag(made, "delete_png", help="remove each PNG once its JPEG is written")
    Parser.flag(made, "delete_archives", help="remove each archive once it is unpacked")
    add("--parallel", type=positive, default=4, metavar="N", help="downloads at once")
    add("--num_workers", type=positive, default=None, metavar="N",
        help="processes that convert images; one per core when not given")  # fmt: skip
    add("--retries", type=positive, default=6, metavar="N", help="failed attempts before giving up")
    return made


@command
def main(argv=None):
    """Run the steps that were asked for; see the module's docstring."""
    options = parser().parse_args(argv)
    if options.png and options.delete_png:
        raise UserError("contradictory options", "--png with --delete_png", "leave one of them out")
    from datasets.preparation.plan import Work
    from datasets.preparation.steps import Step, prepare
    from evaluation import ground_truth

    drives, notes = kitti_drives.wanted_drives(options.split, options.frame_ids, options.use_stereo, options.lidar)
    print(*notes, sep="\n", end="\n" if notes else "")
    given = {name: getattr(options, name) for name in ("base_url", "parallel", "retries", "png")}
    given |= {"delete_archives": options.delete_archives, "delete_png": options.delete_png}
    work = Work(options.data_path, drives, workers=options.num_workers, **given)
    steps = {Step(step) for step in options.steps} - ({Step.CONVERT} if options.png else set())
    prepare(work, steps, lambda: ground_truth.build_missing(work.data_path, options.split, work.problems.collected))
    return 0


if __name__ == "__main__":
    sys.exit(main())
