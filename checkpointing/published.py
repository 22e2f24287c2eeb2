"""The published weights by name: links, results (Zhang et al., CVPR 2023, table 2), and where they are kept."""

import os
from typing import NamedTuple

SHARES = "https://surfdrive.surf.nl/files/index.php/s"
SHARES_VARIABLE = "LITE_MONO_SHARES"  # another server with the same share names: a mirror, or a test
CACHE_VARIABLE = "LITE_MONO_CACHE"
FILES = ("encoder.pth", "depth.pth")


class Weights(NamedTuple):
    """Depth weights: model, training size, share, and the published KITTI Eigen results in the order of the metrics."""

    model: str
    width: int
    height: int
    share: str
    results: tuple


class Encoder(NamedTuple):
    """An encoder pre-trained on ImageNet, for --mypretrain."""

    model: str
    share: str


_ROWS = {  # model: share and results at 640x192, the same at 1024x320, share of the ImageNet encoder
    "lite-mono": (
        "CUjiK221EFLyXDY",
        (0.107, 0.765, 4.561, 0.183, 0.886, 0.963, 0.983),
        "IK3VtPj6b5FkVnl",
        (0.102, 0.746, 4.444, 0.179, 0.896, 0.965, 0.983),
        "InMMGd5ZP2fXuia",
    ),
    "lite-mono-small": (
        "8cuZNH1CkNtQwxQ",
        (0.110, 0.802, 4.671, 0.186, 0.879, 0.961, 0.982),
        "w8mvJMkB1dP15pu",
        (0.103, 0.757, 4.449, 0.180, 0.894, 0.964, 0.983),
        "DYbWV4bsWImfJKu",
    ),
    "lite-mono-tiny": (
        "TFDlF3wYQy0Nhmg",
        (0.110, 0.837, 4.710, 0.187, 0.880, 0.960, 0.982),
        "myxcplTciOkgu5w",
        (0.104, 0.764, 4.487, 0.180, 0.892, 0.964, 0.983),
        None,
    ),
    "lite-mono-8m": (
        "UlkVBi1p99NFWWI",
        (0.101, 0.729, 4.454, 0.178, 0.897, 0.965, 0.983),
        "mgonNFAvoEJmMas",
        (0.097, 0.710, 4.309, 0.174, 0.905, 0.967, 0.984),
        "oil2ME6ymoLGDlL",
    ),
}
WEIGHTS = {
    f"{model}_{width}x{height}": Weights(model, width, height, row[at], row[at + 1])
    for at, (width, height) in ((0, (640, 192)), (2, (1024, 320)))
    for model, row in _ROWS.items()
}
ENCODERS = {f"{model}_imagenet": Encoder(model, row[4]) for model, row in _ROWS.items() if row[4]}


def place(name):
    """Return where a published name's folder (depth weights) or file (ImageNet encoder) is kept in the cache."""
    return os.path.join(cache_folder(), "weights", name if name in WEIGHTS else f"{name}.pth")


def is_there(name):
    """Whether a published name is in the cache (fetched, or put there by hand)."""
    if name in WEIGHTS:
        return all(os.path.isfile(os.path.join(place(name), file)) for file in FILES)
    return os.path.isfile(place(name))


def page(name):
    """Return the address of the share's page."""
    base = (os.environ.get(SHARES_VARIABLE) or SHARES).rstrip("/")
    return f"{base}/{(WEIGHTS.get(name) or ENCODERS[name]).share}"


def cache_folder():
    """Return the cache folder: $LITE_MONO_CACHE, else lite-mono in $XDG_CACHE_HOME, else in ~/.cache. Not created."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG rules: a relative path is to be ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "lite-mono")
