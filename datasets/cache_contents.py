"""What a cache of frames holds: which frames, how they are read, and the name that follows from both."""

import hashlib
import json
import os

import numpy as np

VERSION = 1  # of the files; another number means: build again
GIGABYTE = 1e9


class CacheContents:
    """The frames of data sets that can share a cache: one kind, root and size.

    Attributes:
        frames: what `load_frame` of a data set takes, for each row of the file.
        shape: (frames, 3, height, width) of the file. bytes, frame_bytes: of the file and of a row.
        about: plain values, equal for equal caches; `name` is made from them.
    """

    def __init__(self, datasets):
        self.reader = datasets[0]
        settings = {(type(d), d.data_path, d.img_ext, d.height, d.width) for d in datasets}
        if len(settings) != 1:
            raise ValueError(f"data sets that cannot share a cache: {settings}")
        found = {d.frame_of(index, frame) for d in datasets for index in range(len(d)) for frame in d.frame_idxs}
        self.frames = sorted(frame for frame in found if frame[1] >= 0)
        self.shape = (len(self.frames), 3, self.reader.height, self.reader.width)
        self.frame_bytes = 3 * self.reader.height * self.reader.width
        self.bytes = len(self.frames) * self.frame_bytes
        self.about = {
            "version": VERSION,
            "kind": f"{type(self.reader).__module__}.{type(self.reader).__qualname__}",
            "data": os.path.realpath(self.reader.data_path),
            "format": self.reader.img_ext,
            "height": self.reader.height,
            "width": self.reader.width,
            "frames": len(self.frames),
            "sha256": hashlib.sha256("\n".join(f"{a} {b} {c}" for a, b, c in self.frames).encode()).hexdigest(),
        }
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.name = f"frames_{self.reader.width}x{self.reader.height}_{digest[:12]}"

    def size_text(self):
        """Return the size for people."""
        width, height = self.reader.width, self.reader.height
        return f"{len(self.frames)} frames at {width}x{height}, {self.bytes / GIGABYTE:.2f} GB"

    def pixels(self, row):
        """Return a frame decoded and resized, (3, height, width) uint8. Raises UserError."""
        return self.reader.load_frame(*self.frames[row], "the cache").astype(np.uint8)

    def stamp(self, row):
        """Return (size, modification time in ns) of a frame's file, (-1, -1) where there is none."""
        try:
            status = os.stat(self.reader.image_path(*self.frames[row]))
        except OSError:
            return -1, -1
        return status.st_size, status.st_mtime_ns
