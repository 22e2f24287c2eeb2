"""The four published Lite-Mono models as rows of one table (Zhang et al., CVPR 2023, tables 1 and 2), and their input.

Free of torch, so that the command lines can offer the names without loading it.
"""

from typing import NamedTuple

IMAGE_MEAN, IMAGE_STD = 0.45, 0.225  # of every network's input; one grey level for all channels, as in Monodepth2
LARGEST_IMAGE = 4096 * 4096  # pixels that a network's input may have; its maps then take some gigabytes
LARGEST_DILATION = 512  # of a CDC block; maps of images up to 8192 pixels are no wider at 1/16


class ModelRow(NamedTuple):
    """Widths and depths of one model.

    channels: of the three stages, at 1/4, 1/8 and 1/16 of the input size.
    dilations: of each stage's CDC blocks, for 640x192 and every size but 1024x320.
    dilations_1024x320: the same for 1024x320.
    """

    channels: tuple
    dilations: tuple
    dilations_1024x320: tuple


_SHORT = (1, 2, 3)
_SHORT_WIDE = (1, 2, 5)
_BASE = (_SHORT, _SHORT, _SHORT + _SHORT + (2, 4, 6))
_BASE_WIDE = (_SHORT_WIDE, _SHORT_WIDE, _SHORT_WIDE + _SHORT_WIDE + (2, 4, 10))
_SMALL = (_SHORT, _SHORT, _SHORT + (2, 4, 6))
_SMALL_WIDE = (_SHORT_WIDE, _SHORT_WIDE, _SHORT_WIDE + (2, 4, 10))

MODELS = {
    "lite-mono": ModelRow((48, 80, 128), _BASE, _BASE_WIDE),
    "lite-mono-small": ModelRow((48, 80, 128), _SMALL, _SMALL_WIDE),
    "lite-mono-tiny": ModelRow((32, 64, 128), _SMALL, _SMALL_WIDE),
    "lite-mono-8m": ModelRow((64, 128, 224), _BASE, _BASE),
}
USUAL_MODEL = "lite-mono"


def dilations_for(model, height, width):
    """Return the published dilations of `model` at an input size, a tuple of three tuples."""
    row = MODELS[model]
    return row.dilations_1024x320 if (width, height) == (1024, 320) else row.dilations
