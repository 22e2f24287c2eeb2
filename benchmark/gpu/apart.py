"""Jobs in processes of their own: what one leaves in memory, or dies of, does not reach the next."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile

from benchmark.worker import ROOT

LIMIT = 1800  # seconds for one job; compiling takes minutes


class Failed(Exception):
    """A job gave no answer; the text says why, in a line."""


def run(job, arguments, processes=None, limit=LIMIT):
    """Return what a job of `benchmark.gpu.job` answers.

    Args:
        job: its name.
        arguments: its keyword arguments, plain values.
        processes: run it in that many at once, as torchrun would; the first one's answer counts.
        limit: seconds.

    Raises:
        Failed: a process ended with an error or ran past the limit.
    """
    command = [sys.executable, "-m", "benchmark.gpu.job", job, json.dumps(arguments)]
    environments = [os.environ] if processes is None else _as_torchrun(processes)
    started, said = [], []
    with contextlib.ExitStack() as files:
        try:
            for each in environments:
                said.append([files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)])
                started.append(subprocess.Popen(command, cwd=ROOT, env=each, stdin=subprocess.PIPE,
                                                stdout=said[-1][0], stderr=said[-1][1]))  # fmt: skip
            codes = [process.wait(limit) for process in started]
        except subprocess.TimeoutExpired:
            raise Failed(f"not done after {limit:.0f} s") from None
        finally:
            for process in started:
                process.kill()
                process.wait()
                process.stdin.close()
        for code, (_, errors) in zip(codes, said, strict=True):
            if code:
                raise Failed(_last_line(errors) or f"ended with code {code}")
        return json.loads(_last_line(said[0][0]))


def _as_torchrun(count):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _last_line(file):
    file.seek(0)
    lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else ""
