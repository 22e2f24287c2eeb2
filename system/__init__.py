"""What talks to the operating system or the terminal.

Importing it makes sure that the project's folders are what their names mean, since one of them, `datasets`, is also the
name of a package of Hugging Face's. In a process that one of the project's own files has started, it also makes sure
that a package which is missing while the file's imports run is one line and exit code 2, as it is later on.
"""

import os
import sys

from system import resources

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _claim_names():
    """Put the project before other places that hold modules of these names; say so where one is imported already."""
    if ROOT in sys.path[1:]:
        sys.path.remove(ROOT)
        sys.path.insert(0, ROOT)
    for entry in os.scandir(ROOT):
        name = entry.name.removesuffix(".py")
        module = sys.modules.get(name)
        home = getattr(module, "__file__", None)
        is_ours = entry.name.endswith(".py") or os.path.isfile(os.path.join(entry.path, "__init__.py"))
        if home and is_ours and not os.path.abspath(home).startswith(ROOT + os.sep):
            line = (f"a package of another project named {name} is imported already; {home}; "
                    "use this project in a process of its own, or by torch.hub")  # fmt: skip
            main = getattr(sys.modules.get("__main__"), "__file__", None) or ""
            if os.path.dirname(os.path.abspath(main)) == ROOT and main:
                print(f"error: {line}", file=sys.stderr)
                sys.exit(2)
            raise ImportError(line)


def _is_started_here():
    """Whether the file that this process runs is one of the project's, tests left out."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None and sys.argv[:1] == ["-m"]:  # its package is being imported, the file itself comes later
        name = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""
        main = os.path.join(ROOT, *name.split(".")) if os.path.isdir(os.path.join(ROOT, name.split(".")[0])) else None
    inside = os.path.abspath(main or os.sep).removeprefix(ROOT + os.sep)
    return not os.path.isabs(inside) and inside.split(os.sep)[0] not in ("tests", ".venv")


_claim_names()
if _is_started_here():
    resources.tell_missing_packages()
