"""Short videos and folders of images for tests: a camera that moves over a textured world, or stands still."""

from fractions import Fraction

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 160, 96


def world(seed, size=(400, 400)):
    """Return a picture with details of all sizes, larger than a frame."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for cell in (4, 10, 30):
        grid = rng.integers(0, 256, (size[0] // cell + 2, size[1] // cell + 2, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(grid).resize(size[::-1], Image.Resampling.BICUBIC), dtype=float)
    return np.clip((total / 3 - 128) * 1.6 + 128, 0, 255).astype(np.uint8)


def ride(seed, count, step=3):
    """Return `count` frames that move `step` pixels from one to the next."""
    picture = world(seed, (HEIGHT + 8, WIDTH + step * count + 8))
    return [picture[4 : 4 + HEIGHT, step * k : step * k + WIDTH] for k in range(count)]


def write_video(path, frames, fps=10, times=None, options=None):
    """Write frames as H.264 in the container that the path's ending names; `times` in seconds."""
    import av

    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12", "g": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), round(times[number] * 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turned(path, degrees_clockwise):
    """Write into an MP4's track header by how much players are to turn its pictures (ISO 14496-12, 8.3.2)."""
    sine, cosine = {0: (0, 1), 90: (1, 0), 180: (0, -1), 270: (-1, 0)}[degrees_clockwise]
    matrix = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tkhd") + 44
    raw[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(raw)
    return path


def write_folder(path, frames):
    """Write frames as PNG files without leading zeros, so that only numbers bring them into order."""
    path.mkdir(parents=True)
    for number, image in enumerate(frames):
        Image.fromarray(image).save(path / f"shot_{number}.png")
    return path
