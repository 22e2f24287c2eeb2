"""List, fetch and check the published weights by name.

python weights.py list
python weights.py fetch lite-mono_640x192
python weights.py check FOLDER_OR_NAME
"""

import os
import sys

from checkpointing import published
from system import errors
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
    elif options.action == "fetch":
        fetch(options.names, options.retries)
    else:
        check(options.what)
    return 0


def show():
    """Print the published names."""
    print(f"{'name':<26}{'abs_rel':<9}{'here':<6}page")
    for name in (*published.WEIGHTS, *published.ENCODERS):
        row = published.WEIGHTS.get(name)
        result = f"{row.results[0]:.3f}" if row else ""
        print(f"{name:<26}{result:<9}{'yes' if published.is_there(name) else 'no':<6}{published.page(name)}")
    print(f"kept in {os.path.dirname(published.place('lite-mono_640x192'))}")


def fetch(names, retries=3):
    """Fetch names one after another; problems are raised when all have been tried, those of one cause as one."""
    known = (*published.WEIGHTS, *published.ENCODERS)
    unknown = [name for name in names if name not in (*known, "all")]
    if unknown:
        raise errors.UserError("not a published name", unknown[0], f"choose from {', '.join(known)}, or all")
    problems = []
    for name in known if "all" in names else names:
        try:
            print(f"{name}: {published.fetch(name, retries=retries)}")
        except errors.UserError as problem:
            problems.append(problem)
    causes = {problem.what.partition(": ")[2] for problem in problems}
    if len(problems) > 1 and len(causes) == 1:
        where = os.environ.get(published.SHARES_VARIABLE) or published.SHARES
        what = f"{len(problems)} names could not be fetched: {causes.pop()}"
        raise errors.UserError(what, where, "see python weights.py list for the pages to open in a browser")
    if problems:
        raise errors.UserErrors(problems)


def check(what):
    """Say what weights are, and check a published name's against its row."""
    path = os.path.expanduser(what)
    name = None if os.path.exists(path) else what
    if name is not None:
        if name not in published.WEIGHTS and name not in published.ENCODERS:
            raise errors.UserError("no such folder, file or published name", what, "see python weights.py list")
        if not published.is_there(name):
            raise errors.UserError(
                "these weights are not here", published.place(name), f"run python weights.py fetch {name}"
            )
        path = published.place(name)
    if os.path.isfile(path):
        model = published.ENCODERS[name].model if name else _encoder_model(path)
        published.check_encoder(path, model)
        print(f"{path}: an encoder of {model}, all entries finite")
        return
    row = published.WEIGHTS.get(name) or _folder_row(path)
    published.check_folder(path, row)
    print(f"{path}: {row.model} for {row.width}x{row.height}, all keys and shapes fit, all entries finite")


def _encoder_model(path):
    from checkpointing.files import identify_model, read_state
    from checkpointing.imagenet import CLASSIFIER_ENTRIES

    state = read_state(path)
    state = state.get("model", state)
    state = state if isinstance(state, dict) else {}
    model = identify_model({key: value for key, value in state.items() if not key.startswith(CLASSIFIER_ENTRIES)})
    return model or _unknown(path)


def _folder_row(path):
    from checkpointing.files import identify_model, read_state

    state = read_state(os.path.join(path, published.FILES[0]))
    model = identify_model(state) or _unknown(path)
    return published.Weights(model, state.get("width"), state.get("height"), None, None)


def _unknown(path):
    raise errors.UserError("the weights are of none of the four models", path, "check the file")


if __name__ == "__main__":
    sys.exit(main())
