"""List, fetch and check the published weights by name.

python weights.py list
python weights.py fetch lite-mono_640x192
python weights.py check FOLDER_OR_NAME
"""

import os
import sys

from checkpointing import published
from system.command_line import Parser, command, whole


def parser():
    """Return the command line's parser."""
    made = Parser(prog="weights.py", description=__doc__.splitlines()[0])
    actions = made.add_subparsers(dest="action", metavar="list | fetch | check", required=True, parser_class=Parser)
    actions.add_parser("list", help="the published names, where they come from, and whether they are here")
    fetch = actions.add_parser("fetch", help="fetch published weights into the cache")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="published names, or all")
    fetch.add_argument("--retries", type=whole, default=3, metavar="N", help="failed attempts before giving up")
    check = actions.add_parser("check", help="say what a folder, a file or a fetched name is")
    check.add_argument("what", metavar="FOLDER", help="a weights folder, an encoder file, or a published name")
    return made


@command
def main(argv=None):
    """Run the command line."""
    options = parser().parse_args(argv)
    if options.action == "list":
        show()
        return 0
    from checkpointing import fetched

    if options.action == "fetch":
        fetched.fetch_all(options.names, print, retries=options.retries)
    else:
        print(fetched.checked(options.what))
    return 0


def show():
    """Print the published names."""
    print(f"{'name':<26}{'abs_rel':<9}{'here':<6}page")
    for name in (*published.WEIGHTS, *published.ENCODERS):
        row = published.WEIGHTS.get(name)
        result = f"{row.results[0]:.3f}" if row else ""
        print(f"{name:<26}{result:<9}{'yes' if published.is_there(name) else 'no':<6}{published.page(name)}")
    print(f"kept in {os.path.dirname(published.place('lite-mono_640x192'))}")


if __name__ == "__main__":
    sys.exit(main())
