"""Files of ground-truth depth: written as a whole, read back one image at a time.

A file gt_depths.npz holds one float32 array (H, W) per image, metres, 0 where unknown, named depth_00000 and so on
in list order, so that images may differ in size and reading needs the memory of one. The zip comment says what it was
made of. Files of the published code, one pickled object array "data", are read too, by a reader that can build
nothing but arrays of numbers.
"""

import json
import os
import pickle
import re
import zipfile

import numpy as np

from datasets.splits import checksum
from system import files
from system.errors import UserError, from_os_error

REBUILD = "make it again with export_gt_depth.py"


def write_ground_truth(path, depths, comment):
    """Write depth maps (H, W) in order, whole or not at all; `comment`: a JSON text that says what they are."""
    with files.replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, depth in enumerate(depths):
            with archive.open(f"depth_{number:05d}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(depth, dtype=np.float32), allow_pickle=False)
        archive.comment = comment.encode()


def load_ground_truth(path, lines=None):
    """Open a ground-truth file.

    Args:
        path: gt_depths.npz, of this project or of the published code.
        lines: the test lines it should belong to; a file made for another list is refused.

    Returns:
        A sequence of float32 (H, W) arrays, metres, 0 where unknown, each read when it is asked for.

    Raises:
        UserError: the file is missing, cut off, something else, or belongs to another list.
    """
    path = os.fspath(path)
    files.refuse_unless_regular(path, REBUILD)
    try:
        with zipfile.ZipFile(path) as archive:
            names, comment = archive.namelist(), archive.comment
            if "data.npy" in names:
                depths = _published(archive, path)
            else:
                depths = GroundTruth(path, sorted(name for name in names if re.fullmatch(r"depth_\d{5,}\.npy", name)))
    except FileNotFoundError:
        raise UserError("missing ground truth", path, REBUILD) from None
    except files.DAMAGED_ARRAYS as error:
        raise UserError("not a ground-truth file, or one cut off", f"{path}: {error}", REBUILD) from None
    except OSError as error:
        raise from_os_error(error, path) from error
    if not len(depths):
        raise UserError("a file without ground truth", path, REBUILD)
    if lines is not None:
        _check_list(path, comment, depths, lines)
    return depths


def _check_list(path, comment, depths, lines):
    if len(depths) != len(lines):
        raise UserError(f"ground truth of {len(depths)} images for a list of {len(lines)}", path, REBUILD)
    try:
        made_for = json.loads(comment or b"{}").get("sha256")
    except (ValueError, AttributeError):
        made_for = None
    if made_for not in (None, checksum(lines)):
        raise UserError("ground truth made for another list of images", path, REBUILD)


class GroundTruth:
    """The depths of a file as a sequence that reads one at a time; may be copied to other processes."""

    def __init__(self, path, names):
        self.path, self._names = path, names
        self._archive = self._owner = None

    def __len__(self):
        return len(self._names)

    def __getitem__(self, index):
        name = self._names[index]
        try:
            depth = files.read_member(self._open(), name)
        except (*files.DAMAGED_ARRAYS, OSError) as error:
            raise UserError("damaged ground truth", f"{self.path}, {name}: {error}", REBUILD) from None
        return _as_depth(depth, self.path)

    def __getstate__(self):
        return self.__dict__ | {"_archive": None, "_owner": None}

    def _open(self):
        if self._owner != os.getpid():  # a forked process would share our position in the file
            self._archive, self._owner = zipfile.ZipFile(self.path), os.getpid()
        return self._archive


def _as_depth(depth, path):
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise UserError("ground truth that is no depth map", f"{path}: {depth.dtype} {depth.shape}", REBUILD)
    return np.ascontiguousarray(depth, dtype=np.float32)


def _published(archive, path):
    """Return the depths of the published form: an object array of maps, or a plain array where all sizes agree."""
    with archive.open("data.npy") as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
        if dtype.hasobject:
            try:
                depths = _ArrayUnpickler(member, encoding="latin1").load()
                depths = [item.array() for item in depths.items(shape)]
            except Exception as error:
                # a hostile stream can end in any exception; it has built nothing but the stand-ins below
                which = f"{path}: {type(error).__name__}: {error}"
                raise UserError("not a ground-truth file", which, REBUILD) from None
            return [_as_depth(depth, path) for depth in depths]
    return [_as_depth(depth, path) for depth in files.read_member(archive, "data.npy")]


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickled NumPy arrays into stand-ins that hold sizes, type codes and bytes; every other name is refused."""

    def find_class(self, module, name):
        known = {
            "_reconstruct": lambda *_: _PickledArray(),
            "_frombuffer": _PickledArray.from_buffer,
            "ndarray": _PickledArray,
            "dtype": _PickledType,
            "encode": lambda text, _: text.encode("latin1"),
        }
        if module.split(".")[0] in ("numpy", "_codecs") and name in known:
            return known[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no depth map needs")


class _PickledType:
    def __init__(self, code, *_):
        self.code, self.order = str(code), "="

    def __setstate__(self, state):
        self.order = state[1] if state[1] in ("<", ">") else "="


class _PickledArray:
    state = None

    @classmethod
    def from_buffer(cls, data, kind, shape, order):
        made = cls()
        made.state = (1, shape, kind, order == "F", data)
        return made

    def __setstate__(self, state):
        self.state = state

    def items(self, shape):
        """Return the arrays of an object array of this shape."""
        _, own_shape, kind, _, content = self.state
        if len(shape) != 1 or tuple(own_shape) != tuple(shape) or kind.code.lstrip("|") not in ("O", "O8", "O4"):
            raise ValueError("not a list of depth maps")
        if not isinstance(content, list) or len(content) != shape[0]:
            raise ValueError("a list of another length")
        return content

    def array(self):
        """Return the numbers."""
        _, shape, kind, fortran, content = self.state
        if not re.fullmatch(r"[fiu][1248]", kind.code):
            raise ValueError(f"numbers of type {kind.code!r}")
        content = content.encode("latin1") if isinstance(content, str) else content
        values = np.frombuffer(content, dtype=np.dtype(kind.code).newbyteorder(kind.order))
        return values.reshape(shape, order="F" if fortran else "C").astype(np.float32)
