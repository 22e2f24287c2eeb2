"""The published weights by name: links, results (Zhang et al., CVPR 2023, table 2), and their cache.

A folder that exists always wins over a name. What is fetched is checked against the networks before it takes its place
in the cache; a link that is dead or leads elsewhere ends in one line with the page and the place to put files by hand.
"""

import contextlib
import errno
import os
import zipfile
from typing import NamedTuple

from system.errors import UserError
from system.files import replacing, replacing_folder, sweep
from system.locks import only_one

SHARES = "https://surfdrive.surf.nl/files/index.php/s"
SHARES_VARIABLE = "LITE_MONO_SHARES"  # another server with the same share names: a mirror, or a test
LARGEST = 500_000_000  # bytes a weights file may unpack to; the largest published one has 35 MB
FILES = ("encoder.pth", "depth.pth")
# Pre-training code may name a few entries more or less than the encoder; a file of another model differs in far more.
TOLERATED_SHARE = 0.05
# Errors that no other link would mend.
_OWN_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR)


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


def weights_folder(name_or_path):
    """Return the folder that --load_weights_folder means: itself, or a published name's, fetched once.

    Args:
        name_or_path: a folder, one of `WEIGHTS`, or None (returned as it is).
    Raises:
        UserError: neither; or the weights could not be fetched.
    """
    if name_or_path is None:
        return None
    path = os.path.expanduser(name_or_path)
    if os.path.exists(path):
        return path
    if name_or_path in WEIGHTS:
        return fetch(name_or_path)
    if name_or_path in ENCODERS:
        raise UserError("these are ImageNet encoders, not depth weights", name_or_path, "pass them to --mypretrain")
    raise UserError(
        "no such weights folder",
        name_or_path,
        "give a folder that holds encoder.pth and depth.pth, or a published name (python weights.py list)",
    )


def pretrained_encoder(name_or_path):
    """Return the file that a --mypretrain means; as `weights_folder`, with the names of `ENCODERS`.

    A published depth name gives the encoder of those weights.
    """
    if name_or_path is None:
        return None
    path = os.path.expanduser(name_or_path)
    if os.path.exists(path):
        return path
    if name_or_path in ENCODERS:
        return fetch(name_or_path)
    if name_or_path in WEIGHTS:
        return os.path.join(fetch(name_or_path), FILES[0])
    raise UserError(
        "no such file of pre-trained weights", name_or_path, f"give a .pth file or one of {', '.join(ENCODERS)}"
    )


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


def fetch(name, **patience):
    """Bring a published name into the cache unless it is there; returns `place(name)`.

    Args:
        patience: timeout, retries and pause of `download.fetch`.
    Raises:
        UserError: the link is dead, leads elsewhere, or what came is not what the name says.
    """
    from fetching import download

    target = place(name)
    if is_there(name):
        return target
    folder = os.path.dirname(target)
    with only_one(os.path.join(folder, f".{name}.lock"), f"fetching {name}"):
        if is_there(name):
            return target
        sweep(folder)
        print(f"fetching {name} from {page(name)}", flush=True)
        parcel = os.path.join(folder, f".{name}.download")
        try:
            download.fetch(f"{page(name)}/download", parcel, **{"retries": 3, **patience})
            _take_in(name, parcel, target)
        except UserError as error:
            if _is_about_this_machine(error):
                raise
            raise UserError(f"{name} could not be fetched: {error.what}", page(name), by_hand(name)) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(parcel)
    return target


def by_hand(name):
    """Return the advice for a link that does not work."""
    what = "encoder.pth and depth.pth into the folder" if name in WEIGHTS else "the file there as"
    return f"open that page in a browser and put {what} {place(name)}"


def _is_about_this_machine(error):
    return getattr(error.__cause__, "errno", None) in _OWN_TROUBLE


def _take_in(name, parcel, target):
    """Check what came and give it its place; nothing changes there when the check fails."""
    from fetching import archives

    members = _members(parcel)
    if name in WEIGHTS:
        with replacing_folder(target) as fresh:
            for file in FILES:
                archives.unpack(parcel, {_only_member(members, file, parcel): os.path.join(fresh, file)}, LARGEST)
            check_folder(fresh, WEIGHTS[name])
        return
    with replacing(target) as file, _raw_file(parcel, members) as source:
        while block := source.read(1 << 20):
            file.write(block)
        file.flush()
        check_encoder(file.name, ENCODERS[name].model)


def _members(parcel):
    """Return the members of a zip archive; {} for a file that is none."""
    from fetching import archives

    with open(parcel, "rb") as file:
        start = file.read(512)
    if start.lstrip()[:1] == b"<":
        raise UserError("the link leads to a web page instead of a file", parcel, "the share has moved")
    return archives.members(parcel) if zipfile.is_zipfile(parcel) else {}


def _only_member(members, file, parcel):
    found = [name for name in members if name.rpartition("/")[2] == file]
    if len(found) != 1:
        raise UserError(f"what came is not an archive with one {file}", parcel, "the share has changed")
    return found[0]


@contextlib.contextmanager
def _raw_file(parcel, members):
    """Open the .pth that came: the file itself (torch's own format is a zip too), or the only one in an archive."""
    packed = [name for name in members if name.endswith((".pth", ".pt", ".tar"))]
    if not packed:
        with open(parcel, "rb") as file:
            yield file
        return
    if len(packed) > 1 or members[packed[0]].file_size > LARGEST:
        raise UserError("what came is not an archive with one weights file", parcel, "the share has changed")
    with zipfile.ZipFile(parcel) as archive, archive.open(packed[0]) as file:
        yield file


# --- checks: from here on torch is needed --------------------------------------------------------------------------


def check_folder(folder, expected):
    """Raise `UserError` unless a folder holds depth weights of the model and size of `expected` (a `Weights`)."""
    from checkpointing.files import check_finite
    from checkpointing.folders import load_depth_network

    network = load_depth_network(folder, expected.model)
    if (network.width, network.height) != (expected.width, expected.height):
        raise UserError(
            f"the weights are for {network.width}x{network.height}, not {expected.width}x{expected.height}",
            folder,
            "choose the name of their size",
        )
    check_finite(folder, network.encoder, network.decoder)


def check_encoder(path, model):
    """Raise `UserError` unless a file holds an ImageNet encoder of this model."""
    from checkpointing.files import check_finite
    from checkpointing.imagenet import load_pretrained_encoder
    from networks import LiteMono

    encoder = LiteMono(model, 192, 640)
    matched, missing, unexpected = load_pretrained_encoder(encoder, path)
    if len(missing) + len(unexpected) > TOLERATED_SHARE * len(matched):
        raise UserError(
            f"the file does not fit {model}: {len(matched)} entries match, {len(missing)} are missing, "
            f"{len(unexpected)} are foreign",
            path,
            "choose the name of its model",
        )
    check_finite(path, encoder)


VARIABLE = "LITE_MONO_CACHE"


def cache_folder():
    """Return the cache folder: $LITE_MONO_CACHE, else lite-mono in $XDG_CACHE_HOME, else in ~/.cache. Not created."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG rules: a relative path is to be ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "lite-mono")
