"""What memory, threads, GPUs and missing packages do to a command, told from their errors; free of torch."""

import os
import sys
import warnings

from system.errors import UserError

_MEMORY = ("can't allocate memory", "not enough memory", "cannot allocate memory", "bad_alloc",
           "could not create a primitive", "failed to map segment", "failed to allocate")  # fmt: skip
_GPU = ("cuda error", "cudnn error", "cublas", "cufft", "cusolver", "device-side assert", "hip error")
# Import names of what requirements.txt lists.
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "PIL", "skimage", "cv2", "matplotlib", "scipy", "tensorboardX",
             "tensorboard", "tqdm", "jinja2")  # fmt: skip
_NO_LIBRARY = "cannot open shared object file"
_KINDS = (MemoryError, RuntimeError, ImportError)  # what such errors come as


def tell_missing_packages():
    """Let a missing package that nobody catches end the process with one line and exit code 2, not with a traceback."""
    usual = sys.excepthook

    def hook(kind, error, trace):
        problem = cause(error, os.path.basename(sys.argv[0])) if isinstance(error, ImportError) else None
        if problem is None:
            return usual(kind, error, trace)
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)

    sys.excepthook = hook
    warnings.filterwarnings("ignore", "Failed to initialize NumPy")  # torch's, before the line that names it


def _memory_was_short(error):
    """Whether a MemoryError is behind an error: torch's writer of files turns one into a position that is not right."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def cause(error, where, trains=False):
    """Return the `UserError` behind an error that says memory, threads, a GPU or a package is wanting, or None.

    Args:
        error: an exception.
        where: what was going on, such as "rank 0 at step 12".
        trains: whether this is a training run, which has other ways out.
    """
    if not isinstance(error, _KINDS):
        return None
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _PACKAGES:
        return UserError("a package is missing", error.name, "run pip install -r requirements.txt")
    if isinstance(error, ImportError) and _NO_LIBRARY in str(error):
        fix = "install it with the system's packages (libGL.so.1: or replace opencv-python by opencv-python-headless)"
        return UserError("a library of the system is missing", str(error).partition(_NO_LIBRARY)[0].rstrip(": "), fix)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    lower = str(error).lower()
    if type(error).__name__ == "OutOfMemoryError":  # torch's; it has no other base than RuntimeError
        fix = "lower --batch_size and accumulate more batches, or --amp bf16" if trains else "lower --batch_size"
        return UserError("the GPU's memory is full", where, fix)
    if _memory_was_short(error) or any(word in lower for word in _MEMORY):
        fix = "lower --batch_size or --num_workers" + ("" if trains else ", or close other programs")
        return UserError("the memory is full", f"{where}: {lines[-1].strip()[:200]}", fix)
    if type(error).__name__ == "AcceleratorError" or any(word in lower for word in _GPU):
        fix = "see the system log (dmesg) for the driver, and " + (
            "continue with --resume" if trains else "try again, or --no_cuda"
        )
        return UserError("the GPU reports an error", f"{where}: {lines[0][:200]}", fix)
    if isinstance(error, NotImplementedError) and "synchronize" in lower:
        return UserError("no processes can be started here", where, "give 1 as the number of processes (0 where it "
                         "is --num_workers)")  # fmt: skip
    if "can't start new thread" in lower:
        return UserError("no more threads can be started", where, "raise the limit (ulimit -u) or lower --num_workers")
    return None
