"""The benchmark's steps on `cuda:0` without a GPU: fake tensors, and stand-ins for events, counters and warnings.

    python -m tests.benchmark_on_paper BATCH HEIGHT WIDTH [options of train.py]

prints {"speed": ..., "stages": ..., "calls": what was asked of torch.cuda; "operations", "gigabytes": of one step, as
gpu_on_paper counts them} as JSON. Its own process; see there.
"""

import collections
import json
import sys
import warnings

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu_on_paper import Count, pretend

CALLS = collections.Counter()
STEP_MS = 250.0  # between two of the made-up events


class Event:
    """Stands for torch.cuda.Event: the n-th recorded one happens at n * STEP_MS."""

    recorded = 0

    def __init__(self, enable_timing=False):
        assert enable_timing

    def record(self):
        CALLS["record"] += 1
        Event.recorded += 1
        self.time = STEP_MS * Event.recorded

    def elapsed_time(self, end):
        assert CALLS["synchronize"]
        return end.time - self.time


class Waits(TorchDispatchMode):
    """Numbers for whoever reads one from the device, with the warning that the driver's debug mode gives."""

    debug = "default"

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        if name == "aten::_local_scalar_dense":
            return 1 if not args[0].is_floating_point() else 1.0
        result = function(*args, **(kwargs or {}))
        if name == "aten::_to_copy" and args[0].is_cuda and not result.is_cuda and Waits.debug == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
        return result


def stand_ins():
    """Put stand-ins for what the benchmark asks of torch.cuda in its place."""

    def counted(name, value=None):
        return lambda *_: CALLS.update([name]) or value

    torch.cuda.Event = Event
    torch.cuda.synchronize = counted("synchronize")
    torch.cuda.reset_peak_memory_stats = counted("reset_peak_memory_stats")
    torch.cuda.max_memory_allocated = counted("max_memory_allocated", 3 * 10**9)
    torch.cuda.get_sync_debug_mode = lambda: Waits.debug
    torch.cuda.set_sync_debug_mode = lambda mode: setattr(Waits, "debug", mode)
    torch.Tensor.pin_memory = lambda self: CALLS.update(["pin_memory"]) or self


def main(argv):
    """Measure one way to take a step, and print what was found."""
    batch, height, width, *flags = argv
    how = {"device": "cuda", "model": "lite-mono-tiny", "batch": int(batch), "height": int(height), "width": int(width),
           "flags": flags}  # fmt: skip
    with pretend():
        stand_ins()
        from benchmark.gpu import steps

        steps.WARM_UP = 1
        with Waits():
            found = {"speed": steps.speed(**how, tf32=False, rounds=1, steps=1),
                     "stages": steps.stages(**how, tf32=False, rounds=1)}  # fmt: skip
        tf32 = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
        with steps.training(**how) as (_, step), torch.autograd.set_multithreading_enabled(False), Count() as count:
            step()
            once = count.operations, count.bytes  # of the first step, which also makes the moments
            step()
        found |= {"operations": count.operations - once[0], "gigabytes": (count.bytes - once[1]) / 1e9}
    print(json.dumps(found | {"calls": CALLS, "tf32": tf32, "debug": Waits.debug}))


if __name__ == "__main__":
    main(sys.argv[1:])
