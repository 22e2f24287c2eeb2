"""Bring KITTI raw from its server (or from archives that are here already) to the form that the splits need.

    python prepare_kitti.py --data_path kitti_data --split eigen_zhou eigen

Every step does only what is left to do and can be run alone; a run that was broken off goes on where it stopped.
Archives live in DATA/archives, where they may also be put by hand.
"""

import contextlib
import os
import sys

from datasets.preparation import kitti_drives
from datasets.preparation.steps import STEPS
from system import errors
from system.command_line import Parser, command, positive


def parser():
    """Return the command line's parser."""
    made = Parser(prog="prepare_kitti.py", description=__doc__.splitlines()[0])
    made.add_argument("--data_path", required=True, metavar="DIR", help="the KITTI folder; made when missing")
    made.add_argument(
        "--split",
        nargs="+",
        default=["eigen_zhou", "eigen"],
        metavar="SPLIT",
        help="published splits, or folders with *_files.txt",
    )
    made.add_argument(
        "--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=f"any of {', '.join(STEPS)}"
    )
    made.add_argument("--base_url", default=kitti_drives.BASE_URL, metavar="URL", help="where the archives are")
    made.add_argument(
        "--frame_ids",
        nargs="+",
        type=int,
        default=[0, -1, 1],
        metavar="N",
        help="the frames beside each training frame, as in train.py",
    )
    Parser.flag(made, "use_stereo", help="also the other camera of every training frame")
    made.add_argument(
        "--lidar",
        nargs="*",
        choices=("train", "val", "test"),
        default=["test"],
        metavar="PART",
        help="the parts (train, val, test) that get LiDAR scans; none when given alone",
    )
    Parser.flag(made, "png", help="use the images as PNG: the convert step does nothing")
    Parser.flag(made, "delete_png", help="remove each PNG once its JPEG stands")
    Parser.flag(made, "delete_archives", help="remove each archive once it is unpacked")
    made.add_argument("--parallel", type=positive, default=4, metavar="N", help="downloads at once")
    made.add_argument(
        "--num_workers",
        type=positive,
        default=None,
        metavar="N",
        help="processes that convert images; one per core when not given",
    )
    made.add_argument("--retries", type=positive, default=6, metavar="N", help="vain attempts before giving up")
    return made


@command
def main(argv=None):
    """Run the steps that were asked for; see the module's docstring."""
    options = parser().parse_args(argv)
    if options.png and options.delete_png:
        raise errors.UserError("contradictory options", "--png with --delete_png", "leave one of them out")
    from datasets.preparation.steps import Preparation
    from datasets.preparation.verification import verify
    from system.locks import only_one

    drives, notes = kitti_drives.wanted_drives(options.split, options.frame_ids, options.use_stereo, options.lidar)
    print(*notes, sep="\n", end="\n" if notes else "")
    steps = [step for step in STEPS if step in options.steps and not (step == "convert" and options.png)]
    work = Preparation(
        options.data_path,
        drives,
        base_url=options.base_url,
        parallel=options.parallel,
        workers=options.num_workers,
        delete_archives=options.delete_archives,
        delete_png=options.delete_png,
        steps=steps,
        retries=options.retries,
    )
    if not work.idle():
        with only_one(os.path.join(work.folder, ".lock"), "preparing this KITTI folder"):
            work.bring()
    if "ground_truth" in steps:
        build_ground_truth(options, work)
    if "verify" in steps:
        with work.problems.collected():
            verify(work.data_path, drives, options.png)
    work.problems.raise_if_any()
    return 0


def build_ground_truth(options, work):
    """Build gt_depths.npz of every split that has a test list, unless a sound one for its list is there."""
    from datasets.splits import resolve_split
    from evaluation.ground_truth import build, ground_truth_path, load_ground_truth

    for split in map(resolve_split, options.split):
        if "test" not in split.parts() or split.name == "benchmark":
            continue
        with work.problems.collected():
            lines, path = split.lines("test"), ground_truth_path(split)
            if os.path.exists(path):
                with contextlib.suppress(errors.UserError):
                    load_ground_truth(path, lines)
                    print(f"ground truth of {split.name} is there: {path}")
                    continue
            build(work.data_path, split, lines)
            print(f"ground truth of {split.name}: {len(lines)} maps in {path}")


if __name__ == "__main__":
    sys.exit(main())
