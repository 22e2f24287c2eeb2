"""The corruptions that the package imagecorruptions-imaug computes (Hendrycks and Dietterich, ICLR 2019: ImageNet-C).

The package draws from NumPy's global generator: it belongs into a process of its own, never beside other threads.
"""

import functools

import numpy as np

from system.errors import UserError

REQUIREMENTS = "requirements-robustness.txt"
_TAKES_SEED = ("impulse_noise",)  # draws from a generator of its own


@functools.cache
def package():
    """Return the module imagecorruptions.

    Raises:
        UserError: it is not installed, or what it needs does not load.
    """
    try:
        import imagecorruptions
    except ModuleNotFoundError as error:
        fix = f"pip install -r {REQUIREMENTS}"
        raise UserError("the package behind the corruptions is missing", error.name, fix) from None
    except (ImportError, OSError) as error:  # a shared library that OpenCV's windows need
        fix = 'pip install --force-reinstall --no-deps "opencv-python-headless>=4.10,<6"'
        raise UserError("the package behind the corruptions does not load", error, fix) from None
    return imagecorruptions


def named(name):
    """Return the function (image, severity, seed) -> image of one of the package's corruptions."""

    def corrupted(image, severity, seed):
        more = {"seed": seed} if name in _TAKES_SEED else {}
        np.random.seed(seed)
        return package().corrupt(image, severity, name, **more)

    return corrupted
