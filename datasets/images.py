"""Image files in, RGB images and depth maps out: decoding, Lanczos resizing, the pyramid of scales. Free of torch.

The resampling is Pillow's Lanczos filter on 8-bit values, each coarser scale from the finer one, since published
weights were trained on images made so.
"""

import functools
import os
import struct
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets import lanczos
from system.errors import UserError, from_os_error
from system.files import open_regular

DEPTH_UNITS = 256.0  # of KITTI's depth PNGs, per metre
LARGEST = 200_000_000  # pixels; a larger image is no camera's frame
Image.MAX_IMAGE_PIXELS = LARGEST // 2  # Pillow warns above this, and refuses above twice this
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
TOO_LARGE = f"an image of more than {LARGEST // 1_000_000} million pixels"


def read_rgb(path, wanted_by=None):
    """Decode an image file to a PIL image in RGB.

    Args:
        path: the file.
        wanted_by: what asks for it (a split line, say), for the message.

    Raises:
        UserError: the file is missing, cut off, or no image.
    """
    which = f"{os.fspath(path)} (wanted by {wanted_by})" if wanted_by else os.fspath(path)
    try:
        with open_regular(path, "rb") as file, Image.open(file) as image:
            return to_rgb(image)
    except FileNotFoundError:
        raise UserError("missing image", which, "check the data path, the split and the image format") from None
    except UnidentifiedImageError:
        raise UserError("not an image", which, "replace the file") from None
    except Image.DecompressionBombError:
        raise UserError(TOO_LARGE, which, "make it smaller, or replace the file") from None
    except OSError as error:
        if error.errno:
            raise from_os_error(error, which) from error
        raise UserError("a damaged image", f"{which}: {error}", "copy the file again") from None
    except UserError as error:
        raise UserError(error.what, which, error.fix) from None
    except (SyntaxError, ValueError, EOFError, struct.error) as error:  # what Pillow says of broken chunks
        raise UserError("a damaged image", f"{which}: {error}", "copy the file again") from None


def read_pixels(path, wanted_by=None):
    """Decode an image file to (H, W, 3) uint8: as `read_rgb`, but JPEG by torchvision's decoder, which copies less.

    Raises:
        UserError: as `read_rgb`.
    """
    decode = _jpeg_decoder() if os.fspath(path).endswith((".jpg", ".jpeg")) else None
    if decode:
        try:
            with open_regular(path, "rb") as file:
                content = file.read()
            if 0 < _jpeg_pixels(content) <= LARGEST:
                return decode(content)
        except (OSError, RuntimeError, ValueError, UserError):
            pass  # missing, damaged or of an odd kind: Pillow reads it or says what is wrong
    return np.asarray(read_rgb(path, wanted_by))


def _jpeg_pixels(content):
    """Return the number of pixels that a JPEG's frame header announces, 0 where there is none (ITU T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(content[at + 5 : at + 7], "big") * int.from_bytes(content[at + 7 : at + 9], "big")
        at += 2 + length
    return 0


@functools.cache
def _jpeg_decoder():
    try:
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg
    except (ImportError, RuntimeError):
        return None

    def decode(content):
        values = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
        return values.permute(1, 2, 0).numpy()

    return decode


def to_rgb(image):
    """Return an image of any mode as RGB, decoded: grey ones repeated, 16-bit ones scaled, transparency dropped."""
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        wide = image.mode.startswith("I;16") or values.max(initial=0) > 255
        values = values / 257 if wide else values
        image = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    return image.convert("RGB")


def planes(image, height, width):
    """Return an image resized with Lanczos.

    Args:
        image: (H, W, 3) uint8, or an RGB PIL image.
        height, width: wanted.

    Returns:
        (3, height, width) float32 whole numbers, 0 to 255.
    """
    values = np.asarray(image)
    result = np.empty((3, *values.shape[:2]), np.float32)
    np.copyto(result, values.transpose(2, 0, 1))
    return lanczos.resize(result, height, width)


def pyramid(finest, scales):
    """Return [finest, its half, its quarter, ...]: `scales` planes, each made from the one before it."""
    levels = [finest]
    for scale in range(1, scales):
        height, width = (size // 2**scale for size in finest.shape[1:])
        levels.append(lanczos.resize(levels[-1], height, width))
    return levels


def read_depth_png(path, wanted_by=None):
    """Return a KITTI depth map, (H, W) float32 metres, 0 where unknown: a 16-bit PNG of metres times 256.

    Raises:
        UserError: the file is missing, damaged, or no 16-bit image.
    """
    which = f"{os.fspath(path)} (wanted by {wanted_by})" if wanted_by else os.fspath(path)
    try:
        with open_regular(path, "rb") as file, Image.open(file) as image:
            if not image.mode.startswith("I"):
                raise UserError("a depth map that is no 16-bit PNG", which, "replace the file")
            return np.asarray(image).astype(np.float32) / DEPTH_UNITS
    except FileNotFoundError:
        raise UserError("missing depth map", which, "unpack KITTI's data_depth_annotated below the data path") from None
    except Image.DecompressionBombError:
        raise UserError(TOO_LARGE, which, "replace the file") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        if getattr(error, "errno", None):
            raise from_os_error(error, which) from error
        raise UserError("a damaged depth map", f"{which}: {error}", "copy the file again") from None
