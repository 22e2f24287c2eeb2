"""The process of one job: `python -m benchmark.gpu.job NAME JSON` prints the job's answer, as JSON, on the last line.

It ends with its standard input, so that it does not outlive whoever asked.
"""

import json
import os
import sys
import threading
import traceback

import torch

from benchmark.gpu import latency, parity, ranks, steps
from benchmark.gpu.meter import Meter
from system.devices import choose_device
from system.openmp import spin_briefly

PROBE = 1 << 30  # bytes of the buffer whose copying tells a GPU's bandwidth; a quarter of them on a CPU


def facts(device):
    """Return what the numbers depend on: the device, its measured bandwidth, how many there are, versions."""
    chosen = choose_device(name=device)
    found = {"device": "cpu", "count": 1, "memory_gb": None, "cuda": torch.version.cuda, "torch": torch.__version__}
    if chosen.type == "cuda":
        properties = torch.cuda.get_device_properties(chosen)
        found |= {"device": properties.name, "count": torch.cuda.device_count(),
                  "memory_gb": properties.total_memory / 1e9, "cudnn": torch.backends.cudnn.version()}  # fmt: skip
    return found | {"copy_gb_s": Meter(chosen).bandwidth(PROBE if chosen.type == "cuda" else PROBE // 4) / 1e9}


JOBS = {"facts": facts, "parity": parity.measure, "speed": steps.speed, "stages": steps.stages,
        "latency": latency.measure, "ranks": ranks.measure}  # fmt: skip


def main(name, arguments):
    """Do a job; return the exit code, 1 where it failed, after a line on what it died of."""
    try:
        answer = JOBS[name](**json.loads(arguments))
    except Exception as error:  # whatever a driver, a compiler or a library makes of it
        traceback.print_exc()
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr, flush=True)
        return 1
    print(json.dumps(answer), flush=True)
    return 0


def _end_with_input():
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    spin_briefly()
    code = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # without waiting for the thread above, or for what a library keeps running
