"""Versions of one job in processes of their own: each has its own allocator, and its peak memory can be told.

A process answers every line on its standard input with {"seconds", "cpu_seconds", "peak_gb"}: medians of doing its job
some times in a row. Seconds of the processor tell most on a machine that has other work.
"""

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Worker:
    """A process that does a job on demand; used in a `with` block.

    Args:
        job: module whose `make(version, *arguments)` returns (function to be timed, torch device).
        version: which version of the job.
        arguments: plain values.
        times: how often in a row the job is done for one measurement; what is over in a moment needs more.
    """

    def __init__(self, job, version, arguments, times=1):
        words = [job, version, json.dumps(arguments), str(times)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.worker", *words],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.answers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def run(self):
        """Do the job; return its seconds."""
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a process of the benchmark ended with code {self.process.wait()}")
        self.answers.append(json.loads(answer))
        return self.answers[-1]["seconds"]


def main():
    """Answer the lines of standard input until it ends."""
    import torch

    job, version, arguments, times = sys.argv[1:]
    work, device = importlib.import_module(job).make(version, *json.loads(arguments))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in sys.stdin:
        seconds, cpu_seconds = [], []
        for _ in range(int(times)):
            wait()
            began, worked = time.perf_counter(), time.process_time()
            work()
            wait()
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - worked)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) / 1e9
        answer = {"seconds": statistics.median(seconds), "cpu_seconds": statistics.median(cpu_seconds), "peak_gb": peak}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
