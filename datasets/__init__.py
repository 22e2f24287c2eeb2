"""Images, splits and items to train and evaluate on. The classes are loaded when they are first asked for."""

import importlib

_HOME = {
    "MonoDataset": "mono_dataset",
    "KITTIRAWDataset": "kitti_dataset",
    "KITTIOdomDataset": "kitti_dataset",
    "KITTIDepthDataset": "kitti_dataset",
}
__all__ = tuple(_HOME)
KINDS = {"kitti": "KITTIRAWDataset", "kitti_odom": "KITTIOdomDataset", "kitti_depth": "KITTIDepthDataset"}


def dataset_class(kind):
    """Return the class behind a name of `--dataset`."""
    return __getattr__(KINDS[kind])


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(_HOME))
