"""Ground-truth depth of a split's test images: made from LiDAR scans or improved maps, written, read back one by one.

A file gt_depths.npz holds one float32 array (H, W) per image, metres, 0 where unknown, named depth_00000 and so on
in list order, so that images may differ in size and reading needs the memory of one. The zip comment says what it was
made of. Files of the published code, one pickled object array "data", are read too, by a reader that can build
nothing but arrays of numbers.
"""

import contextlib
import json
import os
import pickle
import re
import zipfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cpu.allocator import keep_freed_memory
from datasets.images import read_depth_png
from datasets.splits import IMPROVED_SPLITS, checksum, parse_lines, resolve_split
from evaluation.presence import refuse_missing
from kitti_utils import CAMERA_OF_SIDE, calibration_folder, generate_depth_map, improved_path, scan_path
from system import files
from system.errors import UserError, from_os_error
from system.progress import Progress

FILE_NAME = "gt_depths.npz"
REBUILD = "make it again with export_gt_depth.py"


def ground_truth_path(split):
    """Return where a split's ground truth lies; `split` as `resolve_split` takes it, or its result."""
    return os.path.join(_resolved(split).folder, FILE_NAME)


def build(data_path, split, lines=None, *, camera_depth=False, output=None, workers=None, quiet=False):
    """Make the ground truth of a split's test images and write it, whole or not at all.

    Args:
        data_path: root of KITTI raw, with scans and calibration (eigen_benchmark: with the improved maps).
        split: a published name or folder, or the result of `resolve_split`.
        lines: its test lines, where they are at hand.
        camera_depth: depth in the camera's frame instead of the velodyne's forward distance.
        output: the file to write; `ground_truth_path(split)` without.
        workers: threads; as many as there are cores without.
        quiet: no progress.

    Returns:
        The path written.

    Raises:
        UserError: a scan, map or calibration is missing or damaged, or the file cannot be written.
    """
    keep_freed_memory()
    split = _resolved(split)
    lines = split.lines("test") if lines is None else list(lines)
    entries = parse_lines(lines, split.where("test"))
    improved = split.name in IMPROVED_SPLITS
    path = os.path.abspath(output or ground_truth_path(split))

    _check_sources(data_path, split, entries, improved)

    def one(number):
        wanted_by = f"{split.where('test')} {number + 1}"
        return depth_of(data_path, entries[number], improved, camera_depth, wanted_by)

    kind = "improved" if improved else "camera" if camera_depth else "velodyne"
    comment = json.dumps({"split": split.name, "depth": kind, "count": len(lines), "sha256": checksum(lines)})
    with Progress("ground truth", len(entries), "images", quiet) as progress:
        _write(path, progress.over(_parallel(one, len(entries), workers)), comment)
    return path


def build_missing(data_path, splits, collected):
    """Build gt_depths.npz of every split that has a test list, unless one for that list is there; print what is done.

    Args:
        data_path: root of KITTI raw.
        splits: names or folders.
        collected: function that returns a context which keeps a split's `UserError` for later.
    """
    for split in map(resolve_split, splits):
        if "test" not in split.parts() or split.name == "benchmark":
            continue
        with collected():
            lines, path = split.lines("test"), ground_truth_path(split)
            with contextlib.suppress(UserError):
                load_ground_truth(path, lines)
                print(f"ground truth of {split.name} is there: {path}")
                continue
            build(data_path, split, lines)
            print(f"ground truth of {split.name}: {len(lines)} maps in {path}")


def check(data_path, split, lines):
    """Raise `UserError` unless a split's ground truth is there or what it is made from is."""
    if not os.path.isfile(ground_truth_path(split)):
        _check_sources(data_path, split, parse_lines(lines, split.where("test")), split.name in IMPROVED_SPLITS)


def _check_sources(data_path, split, entries, improved):
    if improved:
        paths = [improved_path(data_path, *line) for line in entries]
        refuse_missing(paths, "improved depth maps", data_path, split, fix="unpack KITTI's data_depth_annotated there")
    else:
        paths = [scan_path(data_path, line.folder, line.frame) for line in entries]
        refuse_missing(paths, "LiDAR scans", data_path, split)


def depth_of(data_path, line, improved=False, camera_depth=False, wanted_by=None):
    """Return the ground truth of one `Line`, (H, W) float32 metres at the image's own size, 0 where unknown."""
    if improved:
        return read_depth_png(improved_path(data_path, *line), wanted_by)
    scan = scan_path(data_path, line.folder, line.frame)
    calibration = calibration_folder(data_path, line.folder)
    try:
        return generate_depth_map(calibration, scan, CAMERA_OF_SIDE[line.side], vel_depth=not camera_depth)
    except UserError as error:
        which = f"{error.which} (wanted by {wanted_by})" if wanted_by else error.which
        raise UserError(error.what, which, error.fix) from None


def _resolved(split):
    return split if hasattr(split, "folder") else resolve_split(split)


def _parallel(function, count, workers):
    """Yield function(0), function(1), ... from threads, never more than a few ahead of the reader."""
    workers = workers or min(os.cpu_count() or 1, 16)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        try:
            for number in range(count):
                waiting.append(pool.submit(function, number))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _write(path, depths, comment):
    with files.replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, depth in enumerate(depths):
            with archive.open(f"depth_{number:05d}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(depth, dtype=np.float32), allow_pickle=False)
        archive.comment = comment.encode()


# --- reading -------------------------------------------------------------------------------------------------------


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
