"""What each of several processes does: an all-reduce as large as the gradients, then training steps together."""

import os
import statistics

import torch
import torch.distributed as dist

from benchmark.gpu.meter import Meter
from benchmark.gpu.steps import WARM_UP, allow_tf32, training
from system import distributed


def measure(device, model, batch, height, width, flags, rounds, steps):
    """Measure as one of WORLD_SIZE processes, which the environment describes as torchrun would.

    Returns:
        {"processes", "backend", "all_reduce_right": whether the sums are right, "gradient_mb", "all_reduce_ms",
        "bus_gb_s": as NCCL's own tests count it, "images_per_second": of all, "weights_equal": afterwards}.
    """
    count, rank = (int(os.environ[name]) for name in ("WORLD_SIZE", "RANK"))
    kind = torch.device(device).type
    if count == 1:  # a group of one: no more is here, and the library is tried all the same
        own = {"device_id": torch.device(device, 0)} if kind == "cuda" else {}
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", **own)
    try:
        with training(device, model, batch, height, width, flags) as (trainer, step):
            allow_tf32(True)
            meter = Meter(trainer.device)
            result = {"processes": count, "backend": dist.get_backend(), **_all_reduce(trainer, meter, count, rank)}
            for _ in range(WARM_UP):
                step()
            seconds = [meter.seconds(step, steps) for _ in range(rounds)]
            result["images_per_second"] = batch * count / statistics.median(seconds)
            result["weights_equal"] = _weights_equal(trainer, count)
    finally:
        distributed.stop()
    return result


def _all_reduce(trainer, meter, count, rank):
    size = sum(parameter.numel() for parameter in trainer.network.parameters())
    buffer = torch.full((size,), rank + 1.0, device=trainer.device)
    dist.all_reduce(buffer)
    right = bool((buffer == count * (count + 1) / 2).all())
    buffer.zero_()
    seconds = statistics.median(meter.seconds(lambda: dist.all_reduce(buffer), 5) for _ in range(5))
    moved = 2 * (count - 1) / count * 4 * size
    return {"all_reduce_right": right, "gradient_mb": 4 * size / 1e6, "all_reduce_ms": 1000 * seconds,
            "bus_gb_s": moved / seconds / 1e9}  # fmt: skip


def _weights_equal(trainer, count):
    """Whether every process holds the same weights; the largest and smallest of each tell."""
    weights = torch.cat([parameter.detach().flatten() for parameter in trainer.network.parameters()])
    low, high = weights.clone(), weights.clone()
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    return bool(torch.equal(low, high) and low.isfinite().all())
