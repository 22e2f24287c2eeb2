"""One source after the other to a folder of its own below DATA, then the lists over all of them.

    DATA/<name>/000/frames/000000.jpg ...   sequences without cuts
    DATA/<name>/camera.json                 the camera of these frames
    DATA/<name>/report.json                 how they were made: a source that is done is not done again

A source's folder appears whole or not at all.
"""

import dataclasses
import json
import os
import re

from datasets.frames_layout import CAMERA_FILE
from datasets.frames_preparation.lists import PARTS, shared_out
from datasets.frames_preparation.selection import Rules
from datasets.frames_preparation.sequences import write_sequences
from datasets.frames_preparation.sources import open_source
from system import files
from system.errors import UserError
from system.locks import only_one

REPORT = "report.json"
VERSION = 1  # of what is written


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is done to every source; see the options of prepare_frames.py."""

    camera: object = None
    camera_file: str | None = None
    fov: float | None = None
    fps: float | None = 10.0
    every: int | None = None
    crop: tuple | None = None
    height: int = 384
    rules: Rules = Rules()
    workers: int | None = None

    def described(self):
        """Return what a result depends on, for JSON."""
        camera = self.camera.as_dict() if self.camera else None
        rest = {"fov": self.fov, "fps": self.fps, "every": self.every, "height": self.height}
        crop = list(self.crop) if self.crop else None
        return {"version": VERSION, "camera": camera, "crop": crop, **rest, **dataclasses.asdict(self.rules)}


def prepare(paths, data, settings, shares, margin, say=print):
    """Prepare sources and write DATA/train_files.txt and the others over everything in DATA.

    Args:
        paths: videos and folders of images.
        shares: {"val": share, "test": share}.
        margin: frames that an item needs on both sides of its own.

    Raises:
        UserError: a source cannot be read, or there are too few frames.
    """
    sources = {name: open_source(path) for name, path in _names(paths, data).items()}
    with only_one(os.path.join(data, ".lock"), "preparing frames in this folder"):
        files.sweep(data)
        for name, source in sources.items():
            folder = os.path.join(data, name)
            told = {"source": _stamp(source), **settings.described()}
            if _report(folder).get("made_of") == told:
                say(f"{source.path}: done already, in {folder}")
                continue
            if os.path.exists(folder) and not _report(folder):
                raise UserError("the folder exists and holds something else", folder, "choose another --out")
            with files.replacing_folder(folder) as partial:
                camera, lengths = write_sequences(source, partial, settings, say)
                files.write_json(os.path.join(partial, CAMERA_FILE), camera.as_dict())
                listed = [{"folder": f"{number:03d}", "frames": length} for number, length in enumerate(lengths)]
                report = {"path": os.path.realpath(source.path), "made_of": told, "sequences": listed}
                files.write_json(os.path.join(partial, REPORT), report)
        _write_lists(data, shares, margin, say)


def _names(paths, data):
    """Return {folder below DATA: path}: an input keeps the folder that it had, and no input takes another one's."""
    names = {}
    for path in paths:
        stem = os.path.basename(os.path.abspath(path))
        stem = stem if os.path.isdir(path) else os.path.splitext(stem)[0]
        stem = re.sub(r"[^\w.-]", "_", stem).lstrip(".") or "video"
        name, number = stem, 2
        real = os.path.realpath(path)
        while name in names or _report(os.path.join(data, name)).get("path", real) != real:
            name, number = f"{stem}_{number}", number + 1
        names[name] = path
    return names


def _stamp(source):
    status = os.stat(source.path)
    return {"size": status.st_size, "time": status.st_mtime_ns, "images": len(getattr(source, "names", ()))}


def _report(folder):
    try:
        with files.open_regular(os.path.join(folder, REPORT), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError, UserError):
        return {}


# --- the lists -----------------------------------------------------------------------------------------------------


def _write_lists(data, shares, margin, say):
    names = sorted(name for name in os.listdir(data) if name[0] != "." and _report(os.path.join(data, name)))
    sequences = [(f"{name}/{each['folder']}", each["frames"])
                 for name in names for each in _report(os.path.join(data, name))["sequences"]]  # fmt: skip
    lists = shared_out(sequences, shares, margin)
    empty = [part for part, lines in lists.items() if not lines]
    if empty:
        total = sum(frames for _, frames in sequences)
        fix = "give more video, or lower --min_motion"
        fix += "" if empty[0] == "train" else f", or set --{empty[0]}_share 0"
        which = f"{total} frames in {len(sequences)} sequence{'s' * (len(sequences) != 1)}"
        raise UserError(f"too few frames for a {empty[0]} list", which, fix)
    for part in PARTS:
        path = os.path.join(data, f"{part}_files.txt")
        if part in lists:
            files.write_text(path, "".join(f"{line}\n" for line in lists[part]))
        elif os.path.exists(path):
            os.unlink(path)
    say(", ".join(f"{part}: {len(lines)} frames" for part, lines in lists.items()) + f" in {data}")
