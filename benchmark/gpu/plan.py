"""What is measured on a GPU, and the smaller same thing on a CPU."""

from typing import NamedTuple

from networks.model_table import MODELS


class Version(NamedTuple):
    """A way to take a training step.

    flags: options of train.py; tf32: whether float32 products may be rounded to TF32.
    cuda_only: not on a CPU. compiled: on a CPU only where asked for, since it takes minutes.
    """

    flags: tuple = ()
    tf32: bool = True
    cuda_only: bool = False
    compiled: bool = False


VERSIONS = {
    "fp32": Version(tf32=False),
    "TF32": Version(cuda_only=True),
    "bf16": Version(("--amp", "bf16")),
    "fp16": Version(("--amp", "fp16"), cuda_only=True),
    "TF32 compiled": Version(("--compile",), cuda_only=True, compiled=True),
    "bf16 compiled": Version(("--amp", "bf16", "--compile"), compiled=True),
    "bf16 CUDA graph": Version(("--amp", "bf16", "--cuda_graph"), cuda_only=True),
}
PARTS = ("parity", "step", "stages", "latency", "ranks")


def float32(device):
    """Return the version that train.py takes on a device, without --amp."""
    return "TF32" if device.startswith("cuda") else "fp32"


class Plan(NamedTuple):
    """Sizes and repetitions.

    model, batch, height, width: of the training step. versions: names of VERSIONS.
    rounds, steps: measurements, and steps in a row for each, of predictions four times as many.
    parity: keyword arguments of `parity.measure` besides the device.
    processes: of the part ranks; None: as many as there are GPUs.
    """

    device: str
    model: str
    batch: int
    height: int
    width: int
    versions: tuple
    rounds: int
    steps: int
    models: tuple
    batches: tuple
    precisions: tuple
    parity: dict
    processes: int | None


def plan_for(device, model, batch=None, rounds=None, quick=False, compiles=False):
    """Return the `Plan` of a device, "cuda", "cuda:1" or "cpu"; quick: fewer rounds, models and figures."""
    on_cuda = device.startswith("cuda")
    versions = tuple(name for name, version in VERSIONS.items()
                     if on_cuda or not version.cuda_only and (compiles or not version.compiled))  # fmt: skip
    models = (model,) if quick else tuple(MODELS)
    parity = {"steps": ("default",), "networks": (("lite-mono", 640, 192),)} if quick else {}
    rounds = rounds or (2 if quick else 7 if on_cuda else 3)
    if on_cuda:
        return Plan(device, model, batch or 12, 192, 640, versions, rounds, 20, models, (1, 16),
                    ("float32", "float16"), parity, None)  # fmt: skip
    return Plan(device, model, batch or 2, 64, 96, versions, rounds, 1, models, (1, 16), ("float32",), parity, 2)
