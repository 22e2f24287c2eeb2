"""Fetching the published weights: a name becomes a folder or file of the cache, fetched and checked once.

A folder that exists always wins over a name. What is fetched is checked against the networks before it takes its place
in the cache; a link that is dead or leads elsewhere ends in one line with the page and the place to put files by hand.
"""

import contextlib
import errno
import os
import zipfile

from checkpointing.files import check_finite, identify_model, read_state
from checkpointing.folders import load_depth_network
from checkpointing.imagenet import CLASSIFIER_ENTRIES, load_pretrained_encoder
from checkpointing.published import ENCODERS, FILES, SHARES, SHARES_VARIABLE, WEIGHTS, Weights, is_there, page, place
from fetching import archives, download
from networks import LiteMono
from system.errors import UserError, UserErrors
from system.files import replacing, replacing_folder, sweep
from system.locks import only_one

LARGEST = 500_000_000  # bytes a weights file may unpack to; the largest published one has 35 MB
# Pre-training code may name a few entries more or less than the encoder; a file of another model differs in far more.
TOLERATED_SHARE = 0.05
# Errors that no other link would mend.
_OWN_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR)


def weights_folder(name_or_path):
    """Return the folder that --load_weights_folder means: itself, or a published name's, fetched once.

    Args:
        name_or_path: a folder, one of `WEIGHTS`, or None (returned as it is).
    Raises:
        UserError: neither; or the weights could not be fetched.
    """

    def fetched(name):
        if name in ENCODERS:
            raise UserError("these are ImageNet encoders, not depth weights", name, "pass them to --mypretrain")
        return fetch(name) if name in WEIGHTS else None

    fix = "give a folder that holds encoder.pth and depth.pth, or a published name (python weights.py list)"
    return _found(name_or_path, fetched, "no such weights folder", fix)


def pretrained_encoder(name_or_path):
    """Return the file that a --mypretrain means; as `weights_folder`, with the names of `ENCODERS`.

    A published depth name gives the encoder of those weights.
    """

    def fetched(name):
        if name in WEIGHTS:
            return os.path.join(fetch(name), FILES[0])
        return fetch(name) if name in ENCODERS else None

    fix = f"give a .pth file or one of {', '.join(ENCODERS)}"
    return _found(name_or_path, fetched, "no such file of pre-trained weights", fix)


def _found(name_or_path, fetched, problem, fix):
    """Return what is here under a path (~ replaced), or what `fetched` gives for a published name; None for None."""
    if name_or_path is None:
        return None
    path = os.path.expanduser(name_or_path)
    path = path if os.path.exists(path) else fetched(name_or_path)
    if path is None:
        raise UserError(problem, name_or_path, fix)
    return path


def fetch(name, **patience):
    """Bring a published name into the cache unless it is there; returns `place(name)`.

    Args:
        patience: timeout, retries and pause of `download.fetch`.
    Raises:
        UserError: the link is dead, leads elsewhere, or what came is not what the name says.
    """
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


def check_folder(folder, expected):
    """Raise `UserError` unless a folder holds depth weights of the model and size of `expected` (a `Weights`)."""
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


def fetch_all(names, tell, **patience):
    """Fetch names one after another; problems are raised when all have been tried, those of one cause as one.

    Args:
        names: published names; "all" among them means every name.
        tell: print, or what is called like it, for each name that is here then.
        patience: as `fetch`.
    Raises:
        UserError, UserErrors: a name is not a published one, or could not be fetched.
    """
    known = (*WEIGHTS, *ENCODERS)
    unknown = [name for name in names if name not in (*known, "all")]
    if unknown:
        raise UserError("not a published name", unknown[0], f"choose from {', '.join(known)}, or all")
    problems = []
    for name in known if "all" in names else names:
        try:
            tell(f"{name}: {fetch(name, **patience)}")
        except UserError as problem:
            problems.append(problem)
    causes = {problem.what.partition(": ")[2] for problem in problems}
    if len(problems) > 1 and len(causes) == 1:
        where = os.environ.get(SHARES_VARIABLE) or SHARES
        what = f"{len(problems)} names could not be fetched: {causes.pop()}"
        raise UserError(what, where, "see python weights.py list for the pages to open in a browser")
    if problems:
        raise UserErrors(problems)


def checked(folder_file_or_name):
    """Return the sentence about weights that are whole: what they are; a published name's fit its row.

    Raises:
        UserError: they are not there, of no model, damaged, or not what their name says.
    """
    path = os.path.expanduser(folder_file_or_name)
    name = None if os.path.exists(path) else folder_file_or_name
    if name is not None:
        if name not in WEIGHTS and name not in ENCODERS:
            raise UserError("no such folder, file or published name", name, "see python weights.py list")
        if not is_there(name):
            raise UserError("these weights are not here", place(name), f"run python weights.py fetch {name}")
        path = place(name)
    if os.path.isfile(path):
        model = ENCODERS[name].model if name else _encoder_model(path)
        check_encoder(path, model)
        return f"{path}: an encoder of {model}, all entries finite"
    row = WEIGHTS.get(name) or _folder_row(path)
    check_folder(path, row)
    return f"{path}: {row.model} for {row.width}x{row.height}, all keys and shapes fit, all entries finite"


def _encoder_model(path):
    state = read_state(path)
    state = state.get("model", state)
    state = state if isinstance(state, dict) else {}
    model = identify_model({key: value for key, value in state.items() if not key.startswith(CLASSIFIER_ENTRIES)})
    return model or _unknown(path)


def _folder_row(path):
    state = read_state(os.path.join(path, FILES[0]))
    model = identify_model(state) or _unknown(path)
    return Weights(model, state.get("width"), state.get("height"), None, None)


def _unknown(path):
    raise UserError("the weights are of none of the four models", path, "check the file")
