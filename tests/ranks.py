"""Several processes as torchrun would start them, each of which tells at its end what of the group is left behind.

As a command, `python -m tests.ranks FILE.py ARGUMENTS...` runs the file so.
"""

import atexit
import os
import pathlib
import runpy
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(count, file, *words, timeout=300, **environment):
    """Run the Python file in `count` processes with these words; return [(exit code, stdout, stderr)]."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.ranks", *map(str, (file, *words))]
    started = []
    for rank in range(count):
        own = {**os.environ, **shared, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, env=own, text=True, **pipes))
    try:
        ends = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    for _, error in ends:
        assert "left behind" not in error, error
    return [(process.returncode, *end) for process, end in zip(started, ends, strict=True)]


def tell_threads_left_behind():
    """Say on stderr which threads of a group still run, on systems that tell."""
    threads = pathlib.Path("/proc/self/task")
    names = [(each / "comm").read_text().strip() for each in threads.iterdir()] if threads.is_dir() else []
    if left := [name for name in names if "gloo" in name]:
        print(f"left behind: {left}", file=sys.stderr)


if __name__ == "__main__":
    atexit.register(tell_threads_left_behind)  # before all others, so that it comes after them
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")
