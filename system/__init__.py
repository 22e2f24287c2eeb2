"""What talks to the operating system or the terminal.

Importing it makes sure that the project's folders are what their names mean, since one of them, `datasets`, is also the
name of a package of Hugging Face's.
"""

import os
import sys

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


_claim_names()
