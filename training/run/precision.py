"""Device, number formats and repeatability, chosen once and passed down."""

import logging
import random

import numpy as np
import torch

from cpu.allocator import keep_freed_memory
from system import devices

log = logging.getLogger(__name__)

NUMPY_WORDS = 624  # of the Mersenne Twister
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(no_cuda, local_rank=0, name=None):
    """Return this process's device for training; an Apple GPU only by `name`, since training is not tried there."""
    return devices.choose_device(no_cuda, name, local_rank, automatic=("cuda",))


def set_up(device, deterministic=False):
    """Set what is global to the process: TF32 and cuDNN's search on CUDA, the allocator on CPUs, repeatable kernels."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not deterministic
        torch.backends.cudnn.benchmark = not deterministic
        log.info("TF32 %s for float32 products on %s", "off" if deterministic else "on",
                 torch.cuda.get_device_name(device))  # fmt: skip
    else:
        keep_freed_memory()
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def seed_everything(seed):
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def compile_options(device):
    """Return the arguments of torch.compile: on CUDA, small kernels that do not wait for each other become one."""
    return {"options": {"combo_kernels": True}} if device.type == "cuda" else {}


class Precision:
    """Autocast for the networks and the gradient scaler that fp16 needs.

    Args:
        amp: "off", "bf16" or "fp16".
        device: torch.device.
    """

    def __init__(self, amp, device):
        self.device, self.dtype = device, DTYPES.get(amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")

    def autocast(self):
        """Return the context in which the networks run."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)


def random_states(device):
    """Return the states of every random generator of this process, as plain values and tensors."""
    version, keys, gauss = random.getstate()
    name, words, *rest = np.random.get_state()
    states = {
        "python": [version, list(keys), gauss],
        "numpy": [name, torch.from_numpy(words.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states, device):
    """Put back what `random_states` returned.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError: it is something else.
    """
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, position, *rest = states["numpy"]
    if not 0 <= position <= NUMPY_WORDS:  # NumPy would read there without looking
        raise ValueError(f"NumPy's generator at position {position} of {NUMPY_WORDS}")
    np.random.set_state((name, words.numpy().astype(np.uint32), position, *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
