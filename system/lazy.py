"""Packages whose names are loaded when they are first asked for, so that a command's --help does not wait for torch."""

import importlib


def on_demand(package, homes):
    """Return (`__getattr__`, `__all__`) for a package.

    Args:
        package: the package's `__name__`.
        homes: {public name: module of the package that holds it}.
    """

    def __getattr__(name):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return __getattr__, sorted(homes)
