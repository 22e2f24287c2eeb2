"""The lists of training, validation and test images: the published splits, and folders of the user's own.

A line is `<folder> <frame> <l|r>`: a drive (KITTI raw: `<date>/<date>_drive_<n>_sync`, odometry: the sequence's
number), a frame number, and the left or right colour camera. The published splits are kept as frame ranges in
`splits/published.json` (its README explains the notation); a folder holds train_files.txt, val_files.txt and
test_files.txt, whichever are needed. Free of torch and of NumPy.
"""

import functools
import hashlib
import json
import os
from typing import NamedTuple

from system.errors import UserError
from system.files import read_text

PARTS = ("train", "val", "test")
SPLITS_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "splits")
SIDES = {"l": "l", "r": "r", "2": "l", "3": "r"}  # KITTI numbers its left and right colour cameras 2 and 3
IMPROVED_SPLITS = ("eigen_benchmark",)  # their ground truth is KITTI's improved depth maps
LONGEST_NUMBER = 12  # digits of a frame number; file names hold six or ten
LINE_FORM = "a line is '<folder> <frame number> <l or r>'"


class Line(NamedTuple):
    """One entry of a list: folder below the data path, frame number, side "l" or "r"."""

    folder: str
    frame: int
    side: str


def parse_line(line, where="the list"):
    """Return the `Line` that a text line stands for.

    Args:
        line: text such as "2011_09_26/2011_09_26_drive_0001_sync 5 l"; sides 2 and 3 mean l and r.
        where: the file and line number, for the message.

    Raises:
        UserError: the line has another form.
    """
    words = line.split()
    if len(words) != 3 or not (words[1].isascii() and words[1].isdigit()) or words[2] not in SIDES:
        raise UserError("malformed split line", f"{where}: '{_shown(line)}'", LINE_FORM)
    if len(words[1]) > LONGEST_NUMBER:
        raise UserError(f"a frame number of {len(words[1])} digits", f"{where}: '{_shown(line)}'", LINE_FORM)
    if not words[0].isprintable():
        raise UserError("a folder with unprintable characters", f"{where}: '{_shown(line)}'", LINE_FORM)
    return Line(words[0], int(words[1]), SIDES[words[2]])


def _shown(line):
    return "".join(letter if letter.isprintable() else "?" for letter in line.strip()[:120])


def parse_lines(lines, where="entry"):
    """Return `parse_line` of every line; `where` precedes the number that messages name, counted from 1."""
    return [parse_line(line, f"{where} {number}") for number, line in enumerate(lines, 1)]


class Split:
    """A split that has been found; nothing is read before `lines` asks for it.

    Attributes:
        name: the published name, or the folder's base name: what file names carry.
        folder: where its gt_depths.npz belongs.
        published: whether it comes from the table.
    """

    def __init__(self, name, folder, published):
        self.name, self.folder, self.published = name, folder, published

    def __repr__(self):
        return f"Split({self.name!r}, {self.folder!r})"

    def parts(self):
        """Return the parts that exist, in the order train, val, test."""
        if self.published:
            return tuple(part for part in PARTS if part in _table()[self.name])
        return tuple(part for part in PARTS if os.path.exists(self.path(part)))

    def path(self, part):
        """Return the list file of a part (for a published split: where it would be)."""
        return os.path.join(self.folder, f"{part}_files.txt")

    def where(self, part):
        """Return what messages about a line call the list: its file, or the published part."""
        return f"published split {self.name}, {part} entry" if self.published else f"{self.path(part)} line"

    def lines(self, part):
        """Return the lines of a part, each in the form `parse_line` accepts.

        Raises:
            UserError: the split has no such part, or a line of its file is malformed (named with its number).
        """
        if part not in PARTS:
            raise ValueError(f"part is one of {', '.join(PARTS)}, not {part!r}")
        if not self.published:
            return list(_read_list(self.path(part)))
        if part not in _table()[self.name]:
            having = ", ".join(name for name, parts in _table().items() if part in parts)
            fix = f"choose one of {having}, or a folder"
            raise UserError(f"this published split has no {part} list", self.name, fix)
        return list(published_lines(self.name, part))


def published_names(part=None):
    """Return the names of the published splits, all or those that have `part`."""
    return tuple(name for name, parts in _table().items() if part is None or part in parts)


def resolve_split(name_or_folder):
    """Find a split: a published name, a folder, or the name of a folder under splits/.

    Raises:
        UserError: there is none of the three.
    """
    name = os.fspath(name_or_folder)
    if name in _table():
        return Split(name, os.path.join(SPLITS_DIR, name), published=True)
    for folder in (name, os.path.join(SPLITS_DIR, name)):
        if name and os.path.isdir(folder):
            split = Split(os.path.basename(os.path.abspath(folder)), os.path.abspath(folder), published=False)
            if not split.parts():
                fix = "put train_files.txt, val_files.txt or test_files.txt there"
                raise UserError("a split folder without lists", folder, fix)
            return split
    names = ", ".join(published_names())
    raise UserError("unknown split", name or "(empty)", f"give a folder with *_files.txt or one of {names}")


def split_lines(split, part):
    """Return the lines of a part of a split, given as `resolve_split` takes it."""
    return resolve_split(split).lines(part)


def shared_notice(split):
    """Return a sentence about validation lines that are in the training list as well, None where there are none."""
    if split.published:
        return None
    seen, val = set(parse_lines(split.lines("train"))), parse_lines(split.lines("val"))
    shared = sum(line in seen for line in val)
    if shared:
        return f"{shared} of {len(val)} validation lines are in the training list too: validation flatters the network"
    return None


def checksum(lines):
    """Return the SHA-256 over the entries sorted by folder, frame and side: the order of a list does not matter."""
    entries = (f"{folder} {frame} {side}" for folder, frame, side in sorted(parse_lines(lines)))
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def _read_list(path):
    missing = "missing split file", "write it (one line per image) or choose another split"
    texts = read_text(path, ("a split file that is not UTF-8 text", LINE_FORM), missing).splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            parse_line(text, f"{path} line {number}")
            lines.append(" ".join(text.split()))
    if not lines:
        raise UserError("an empty split file", path, LINE_FORM)
    return lines


# --- the published table -----------------------------------------------------------------------------------------


@functools.cache
def _table():
    with open(os.path.join(SPLITS_DIR, "published.json"), encoding="utf-8") as file:
        return json.load(file)["splits"]


@functools.cache
def published_lines(name, part):
    """Return a part of a published split as a tuple of lines; test lists keep the published order."""
    entry = _table()[name][part]
    digits = 10 if entry.get("ten_digits") else 1
    if "numbered" in entry:  # images without a camera: the depth benchmark's test set
        return tuple(f"{folder} {frame}" for folder, text in entry["numbered"].items() for frame in frames(text))
    if "drop" in entry:
        dropped = set(entry["drop"])
        return tuple(line for i, line in enumerate(published_lines(entry["of"], part)) if i not in dropped)
    without = set(published_lines(name, entry["without"])) if "without" in entry else ()
    lines = []
    for folder, cameras in entry["frames"].items():
        if isinstance(cameras, str):
            pairs = [(frame, side) for frame in frames(cameras) for side in entry["sides"]]
        else:
            pairs = [(frame, side) for side, text in cameras.items() for frame in frames(text)]
        lines += (f"{_folder(folder)} {frame:0{digits}d} {side}" for frame, side in pairs)
    return tuple(line for line in lines if line not in without) if without else tuple(lines)


def frames(text):
    """Return the frame numbers that "1-3,7,10-11" (in any order) stands for."""
    numbers = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _folder(drive):
    return f"{drive[:10]}/{drive}_sync" if "_drive_" in drive else drive
