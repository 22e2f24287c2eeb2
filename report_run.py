"""Show training runs on one page: curves, pictures over the epochs, alarms, speed, options, versions.

python report_run.py RUN [RUN ...] --out report.html
"""

import sys

from system.command_line import Parser, command


@command
def main(argv=None):
    """Run the command line."""
    opt = parser().parse_args(argv)
    from reports import run_page

    run_page.write_command(opt, tell=print)
    return 0


def parser():
    """Return the command's parser."""
    made = Parser(prog="report_run.py", description="Show training runs on one page that needs nothing else.")
    made.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, <log_dir>/<model_name>; several are "
                                                             "shown side by side")  # fmt: skip
    made.add_argument("--out", default="report.html", metavar="FILE", help="the page")
    made.add_argument("--plots", metavar="DIR", help="also write the curves as PNG and PDF")
    return made


if __name__ == "__main__":
    sys.exit(main())
