"""Write synthetic street drives in KITTI raw layout: python -m demo.street --out DIR."""

import os
import sys
from argparse import SUPPRESS

from system.command_line import Parser, command, positive, positive_number, whole
from system.errors import UserError
from system.progress import Progress


def parser():
    """The command line."""
    made = Parser(prog="-m demo.street", description=__doc__)
    add = made.add_argument
    add("--out", required=True, default=SUPPRESS, metavar="DIR", help="folder to write to; becomes a --data_path")
    add("--seed", type=whole, default=0, help="of the worlds and paths; the same seed gives the same files")
    add("--drives", type=positive, default=4, help="training drives; one more, through another world, is for tests")
    add("--frames", type=positive, default=80, help="frames per drive")
    add("--width", type=positive, default=416, help="of the pictures")
    add("--height", type=positive, default=128, help="of the pictures")
    add("--step", type=positive_number, default=0.4, help="metres driven per frame")
    add("--samples", type=positive, default=2, help="rays per pixel and axis")
    add("--scan_every", type=positive, default=1, help="frames from one laser scan to the next")
    add("--workers", type=positive, default=os.cpu_count() or 1, help="processes")
    Parser.flag(made, "force", help="write again what is there already")
    return made


# name: (lowest, highest) of the numbers that make sense
_LIMITS = {
    "seed": (0, 2**31),
    "drives": (1, 900),
    "frames": (3, 5000),
    "width": (32, 4096),
    "height": (32, 4096),
    "step": (0.01, 5.0),
    "samples": (1, 8),
    "scan_every": (1, 5000),
    "workers": (1, 512),
}


def _check(options):
    wrong = [name for name, (low, high) in _LIMITS.items() if not low <= getattr(options, name) <= high]
    if wrong:
        which = ", ".join(f"--{name} {getattr(options, name)}" for name in wrong)
        ranges = ", ".join(f"{name} {_LIMITS[name][0]} to {_LIMITS[name][1]}" for name in wrong)
        raise UserError("number out of range", which, f"give {ranges}")


def _present(root, settings):
    """Whether these very drives are there; refuses a folder of the same name that this command did not write."""
    from . import writer

    folder = os.path.join(root, writer.DATE)
    if not os.path.lexists(folder):
        return False
    if not os.path.isfile(os.path.join(folder, writer.MANIFEST)):
        raise UserError("the folder exists and holds something else", folder, "choose another --out")
    try:
        same = writer.read_settings(root) == settings | {"version": writer.VERSION}
    except UserError:  # of another version
        return False
    return same and os.path.isdir(os.path.join(root, writer.SPLIT))


@command
def main(argv=None):
    """Run the command line; returns the exit code."""
    options = parser().parse_args(argv)
    _check(options)
    from . import writer

    names = ("seed", "drives", "frames", "width", "height", "step", "samples", "scan_every")
    settings = {name: getattr(options, name) for name in names}
    if _present(options.out, settings) and not options.force:
        print(f"{os.path.join(options.out, writer.DATE)}: already there (--force writes it again)")
    else:
        with Progress("frames", options.frames * (options.drives + 1), "frames") as progress:
            tell = lambda done, total: progress.advance(done - progress.n)  # noqa: E731
            writer.write_drives(options.out, settings, options.workers, tell)
    for part in (writer.DATE, writer.SPLIT):
        print(os.path.join(options.out, part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
