"""Files that appear whole or not at all: written beside their place, flushed to disk, then renamed into it."""

import contextlib
import errno
import io
import json
import math
import os
import shutil
import stat
import tempfile
import tokenize
import uuid
import zipfile
import zlib

import numpy as np

from system.errors import UserError, from_os_error

# A damaged or hostile .npy or .npz can end in any of these inside NumPy and zipfile.
DAMAGED_ARRAYS = (zipfile.BadZipFile, zlib.error, tokenize.TokenError, EOFError, ValueError, TypeError, LookupError,
                  OverflowError, MemoryError, SyntaxError, RecursionError, RuntimeError)  # fmt: skip
_MARK = ".partial-"
LARGEST_READ = 1 << 30  # bytes of a list, an image, a scan, a table
_NO_RESULTS = (".pth", ".pt", ".npy", ".npz", ".png", ".jpg", ".jpeg")  # endings of files that hold other things


def _beside(path):
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(folder, f".{name[:80]}{_MARK}{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def replacing(path, mode="wb", **open_options):
    """Open a hidden file beside `path`; on a clean exit it takes the name `path`, otherwise it vanishes.

    A link is followed: what it points to is replaced, the link stays.

    Raises:
        UserError: the folder cannot be made or written to, the disk is full, or a folder, pipe or device stands there;
            `path` is then as it was.
    """
    path = os.path.realpath(path)
    refuse_unless_regular(path)
    if os.path.isdir(path):
        raise from_os_error(IsADirectoryError(errno.EISDIR, "", path))
    partial = _beside(path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(partial, mode, **open_options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)


@contextlib.contextmanager
def replacing_folder(path):
    """Yield a hidden folder beside `path`; on a clean exit it takes that name (an older one goes), else it vanishes.

    Raises:
        UserError: as `replacing`.
    """
    path = os.path.abspath(path)
    partial = _beside(path)
    try:
        os.makedirs(partial)
        yield partial
        _sync_files(partial)
        if os.path.isdir(path):
            old = _beside(path)
            os.rename(path, old)
            try:
                os.rename(partial, path)
            except OSError:
                os.rename(old, path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(partial, path)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_unless_regular(path, fix="name a file"):
    """Raise UserError if `path` is a pipe, a device or a socket, which may never end; what is not there passes."""
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError("a pipe or device where a file is expected", path, fix)


def refuse_as_output(path, endings, flag):
    """Raise UserError where a file of results could not be written, or would replace a file of another kind.

    Args:
        path: the file to be written; None passes.
        endings: those that a file there may have to be replaced, and that a new one is advised to have.
        flag: the option that names it.
    """
    if path is None:
        return
    which, path = f"{flag} {path}", os.path.realpath(path)
    refuse_unless_regular(path, f"name a file that ends in {endings[0]}")
    if os.path.isdir(path):
        raise UserError("a folder stands where a file is to be written", which, "give a file name")
    if not path.lower().endswith(endings) and (os.path.exists(path) or path.lower().endswith(_NO_RESULTS)):
        raise UserError("a file of another kind would be replaced", which, f"name a file that ends in {endings[0]}")
    _refuse_unless_writable(path, which)


def check_place(path, flag):
    """Raise `UserError` where a file `path`, asked for by `flag`, could not be written: known before the long work."""
    which = f"{flag} {path}"
    if os.path.isdir(path):
        raise UserError("a folder stands where a file is to be written", which, "give a file name")
    _refuse_unless_writable(os.path.abspath(path), which)


def _refuse_unless_writable(path, which):
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):  # the nearest thing above that exists decides
        folder = os.path.dirname(folder)
    if not _takes_files(folder):
        raise UserError("the file cannot be written there", which, "choose another place")


def _takes_files(folder):
    """Whether a file can be made in `folder`, found out with one that has no name."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def refuse_same(*outputs):
    """Raise UserError where two of the (flag, path) name the same file; paths may be None."""
    seen = {}
    for flag, path in outputs:
        where = path and os.path.realpath(path)
        if where and where in seen:
            raise UserError("two results would be written to one file", f"{seen[where]} and {flag} {path}",
                            "give each a name of its own")  # fmt: skip
        seen[where] = flag


def _sync_files(folder):
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())


def open_regular(path, mode="r", **open_options):
    """Open a file for reading unless it is a pipe, a device or a folder, which could block or never end.

    Raises:
        UserError: it is no regular file, or larger than any file that is read as a whole.
        OSError: as `open`.
    """
    status = os.stat(path)
    kind = status.st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # `open` says what is wrong with a folder
        raise UserError("not a regular file", path, "give a file; pipes and devices are not read")
    if stat.S_ISREG(kind) and status.st_size > LARGEST_READ:
        raise UserError("a file too large to be what is wanted here", f"{path}: {size_text(status.st_size)}",
                        "check what it is")  # fmt: skip
    return open(path, mode, **open_options)


def read_text(path, not_text, missing=None, size=-1):
    """Return the text of a UTF-8 file, without the byte order mark that some editors put before it.

    Args:
        path: of the file.
        not_text, missing: (what is wrong, how to put it right) where it is no text, and where it is not there.
        size: characters at most.

    Raises:
        UserError: it is not there, no regular file, no text, or cannot be read.
    """
    try:
        with open_regular(path, encoding="utf-8-sig") as file:
            return file.read(size)
    except UnicodeDecodeError:
        raise UserError(not_text[0], path, not_text[1]) from None
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise UserError(missing[0], path, missing[1]) from None
        raise from_os_error(error, path) from error


def read_array(file, size):
    """Read an array of NumPy's format, without pickle, once its header has been compared with the file's length.

    Args:
        file: an open binary file, at the beginning of the array.
        size: bytes that there are from here on.

    Raises:
        One of DAMAGED_ARRAYS: it is no array, holds objects, or its header tells of more than there is.
    """
    start = file.tell()
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = header[np.lib.format.read_magic(file)](file)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > min(size, LARGEST_READ):
        raise ValueError(f"{size} bytes that are said to hold an array of {dtype} {shape}"[:200])
    file.seek(start)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_member(archive, name):
    """Return the array `name` of an open .npz (`zipfile.ZipFile`). Raises as `read_array`."""
    with archive.open(name) as member:
        return read_array(member, archive.getinfo(name).file_size)


def is_partial(name):
    """Whether a file or folder name is one of the hidden halves that a killed process may leave behind."""
    return os.path.basename(name).startswith(".") and _MARK in name


def sweep(folder):
    """Remove the halves that killed processes left in `folder`."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if is_partial(name):
            path = os.path.join(folder, name)
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)


def write_bytes(path, data):
    """Write `data` (bytes) to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def write_text(path, text):
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode(errors="backslashreplace"))  # names that are no UTF-8 hold such letters


def write_json(path, value):
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_npy(path, array):
    """Write one array as .npy, without pickle."""
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)


def write_npz(path, **arrays):
    """Write named arrays as a compressed .npz, without pickle."""
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_image(path, image, **options):
    """Write a PIL image; the format follows the ending of `path`."""
    buffer = io.BytesIO()
    endings = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
    image.save(buffer, format=endings[os.path.splitext(path)[1].lower()], **options)
    write_bytes(path, buffer.getvalue())


def size_text(count):
    """Return a number of bytes as people read it: 1.5 GB, 320.0 MB (powers of ten, as disks are sold)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
