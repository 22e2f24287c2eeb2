"""Versions of one job in processes of their own: each has its own allocator, and its peak memory can be told.

A process does its job once for every line on its standard input, a JSON list of arguments, and answers with {"seconds",
"cpu_seconds", "peak_gb"}. Seconds of the processor tell most on a machine that has other work.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Worker:
    """A process that does a job on demand; used in a `with` block.

    Args:
        job: module whose `make(version, *arguments)` returns (function to be timed, torch device).
        version: which version of the job.
    """

    def __init__(self, job, version):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarking.worker", job, version],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.answers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def run(self, *arguments):
        """Do the job with these arguments; return its seconds."""
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a process of the benchmark ended with code {self.process.wait()}")
        self.answers.append(json.loads(answer))
        return self.answers[-1]["seconds"]


def main():
    """Answer the lines of standard input until it ends."""
    import torch

    module, version = importlib.import_module(sys.argv[1]), sys.argv[2]
    made, work, device = None, None, None
    for line in sys.stdin:
        arguments = json.loads(line)
        if arguments != made:
            work, device = module.make(version, *arguments)
            made = arguments
        wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        wait()
        began, worked = time.perf_counter(), time.process_time()
        work()
        wait()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) / 1e9
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak}), flush=True)


if __name__ == "__main__":
    main()
