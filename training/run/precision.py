"""Device, number formats and the compiler's options, chosen once and passed down."""

import logging

import torch

from cpu.allocator import keep_freed_memory
from system import devices

log = logging.getLogger(__name__)

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


def device_name(device):
    """Return what a device is called in a run's records: a CUDA device by its product name, others by kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


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
