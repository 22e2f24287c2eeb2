"""Which device a command computes on."""

import re

from system.errors import UserError

NAMES = "cpu, cuda, cuda:1 or mps"


def choose_device(no_cuda=False, name=None, local_rank=0, automatic=("cuda", "mps")):
    """Return the torch device to compute on.

    Args:
        no_cuda: stay on the CPU.
        name: cpu, cuda, cuda:<number> or mps; without, the first of `automatic` that this machine has, else the CPU.
        local_rank: which CUDA device this process takes where `name` gives no number.
        automatic: kinds of device to take without being told to.

    Raises:
        UserError: no such name, or torch finds no such device on this machine.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name is None:
        kind = "cpu" if no_cuda else next((each for each in automatic if there[each]), "cpu")
        return torch.device("cuda", local_rank) if kind == "cuda" else torch.device(kind)
    if no_cuda and name != "cpu":
        raise UserError("two devices are asked for", f"--no_cuda and --device {name}", "drop one")
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,4})?", name):
        raise UserError("no such kind of device", f"--device {name}", f"give {NAMES}")
    if name.startswith("cuda"):
        if not there["cuda"]:
            raise UserError("torch finds no CUDA device here", f"--device {name}", "use --device cpu")
        number = int(name.partition(":")[2] or local_rank)
        if number >= torch.cuda.device_count():
            raise UserError("no such CUDA device", f"--device {name}",
                            f"there are {torch.cuda.device_count()}, counted from 0")  # fmt: skip
        return torch.device("cuda", number)
    if name == "mps" and not there["mps"]:
        raise UserError("torch finds no Apple GPU here", "--device mps", "use --device cpu")
    return torch.device(name)
