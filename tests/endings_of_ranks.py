"""How two ranks end, whatever goes wrong: seconds from the fault to the end of the last process, exit codes, lines.

    python -m tests.endings_of_ranks --data_path DRIVE

DRIVE is made by `python -m demo.street --drives 2 --frames 8 --width 128 --height 64 --out DRIVE`. Each fault is tried
with the ranks started one by one, as clusters do, and by torchrun. It is no part of the test suite, since its times
mean something on a quiet machine only.
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from system.command_line import Parser, command
from tests.ranks import free_port
from tests.short_runs import arguments
from tests.test_ending import ROOT, Run

LIMIT = 90.0  # seconds after which what is left is killed


class Ranks:
    """Two ranks of train.py, by torchrun or one by one; `second` are further words for rank 1 of the latter."""

    def __init__(self, torchrun, *argv, second=()):
        script, port = ROOT / "train.py", free_port()
        if torchrun:
            launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
            self.runs = [Run(sys.executable, *launcher, script, *argv)]
        else:
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
            self.runs = [Run(sys.executable, script, *argv, *(second if rank else ()), RANK=str(rank),
                             LOCAL_RANK=str(rank), **shared) for rank in range(2)]  # fmt: skip
        self.said, self.first_error, self.under_way = [], None, threading.Event()
        for run in self.runs:
            for stream in (run.process.stdout, run.process.stderr):
                threading.Thread(target=self._read, args=(stream, stream is run.process.stderr), daemon=True).start()

    def _read(self, stream, is_error):
        for line in stream:
            if "step 1/" in line:
                self.under_way.set()
            if is_error and line.strip():
                self.said.append(line.rstrip())
                if line.startswith("error: ") and self.first_error is None:
                    self.first_error = time.monotonic()

    def processes(self):
        """Return {process: command} of all that is alive."""
        return {number: words for run in self.runs for number, words in run.processes().items()}

    def rank(self, number):
        """Return the process of a rank."""
        for process in self.processes():
            try:
                words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
                above = Path(f"/proc/{parent}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"RANK={number}".encode() in words and f"RANK={number}".encode() not in above:
                return process
        raise LookupError(f"rank {number} is gone")

    def worker(self):
        """Return a process that rank 0 has started."""
        rank = self.rank(0)
        return max(p for p in self.processes() if p != rank
                   and Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[1] == str(rank))  # fmt: skip

    def end(self, since):
        """Wait for the end of all; return a row of the table."""
        began = time.monotonic()
        while self.processes() and time.monotonic() - began < LIMIT:
            time.sleep(0.1)
        ended, left = time.monotonic(), len(self.processes())
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        codes = [run.process.wait() for run in self.runs]
        time.sleep(0.2)
        own = [line for line in self.said if line.startswith("error: ")]
        foreign = sum("Traceback" in line for line in self.said)
        since = since or self.first_error or began
        return f"{ended - since:6.1f} s  left {left}  codes {codes}  errors {len(own)}  tracebacks {foreign}  {own[:2]}"


def _delete_image(ranks, data):
    next(data.glob("*/*_0001_sync/image_02/data/*3.jpg")).unlink()


FAULTS = {  # name: (more words, what is done once training is under way)
    "missing image, no workers": (("--num_workers", 0), _delete_image),
    "missing image, one worker": (("--num_workers", 1), _delete_image),
    "loss not finite": (("--min_depth", 1e-320), None),
    "loss not finite, one worker": (("--min_depth", 1e-320, "--num_workers", 1), None),
    "killed worker": (("--num_workers", 1), lambda ranks, data: os.kill(ranks.worker(), signal.SIGKILL)),
    "killed rank 1": ((), lambda ranks, data: os.kill(ranks.rank(1), signal.SIGKILL)),
    "killed rank 0": ((), lambda ranks, data: os.kill(ranks.rank(0), signal.SIGKILL)),
    "SIGTERM to rank 1": ((), lambda ranks, data: os.kill(ranks.rank(1), signal.SIGTERM)),
    "SIGTERM to rank 0": ((), lambda ranks, data: os.kill(ranks.rank(0), signal.SIGTERM)),
    "killed torchrun": ((), lambda ranks, data: ranks.runs[0].process.kill()),
    "state damaged for rank 1": ((), None),
}


def attempt(name, torchrun, data, folder):
    """Run one fault; return its row."""
    shutil.copytree(data, folder / "data")
    more, act = FAULTS[name]
    argv = [*arguments(folder / "data", folder / "runs", "--batch_size", 3, "--num_epochs", 5000), *map(str, more)]
    second = ()
    if name == "state damaged for rank 1":
        whole = Ranks(False, *argv, "--max_steps", "1")
        whole.end(None)
        shutil.copytree(folder / "runs" / "run", folder / "damaged")
        for path in (folder / "damaged" / "states").iterdir():
            path.write_bytes(path.read_bytes()[:1000])
        argv += ["--resume", str(max((folder / "runs" / "run" / "states").iterdir()))]
        second = ("--resume", str(max((folder / "damaged" / "states").iterdir())))
    ranks, since = Ranks(torchrun, *argv, second=second), None
    if act:
        if not ranks.under_way.wait(120):
            return f"never began: {ranks.end(None)}"
        since = time.monotonic()
        act(ranks, folder / "data")
    return ranks.end(since)


@command
def main(argv=None):
    """Try the faults; see the module's docstring."""
    made = Parser(prog="tests.endings_of_ranks", description=__doc__.splitlines()[0])
    made.add_argument("--data_path", required=True, metavar="DRIVE", help="a small drive of demo.street")
    made.add_argument("--only", default=" ", metavar="WORDS", help="faults whose names hold this")
    options = made.parse_args(argv)
    for name in (each for each in FAULTS if options.only.strip() in each):
        for torchrun in (False, True):
            if (name == "killed torchrun" and not torchrun) or (name.startswith("state") and torchrun):
                continue
            with tempfile.TemporaryDirectory() as folder:
                row = attempt(name, torchrun, Path(options.data_path), Path(folder))
            start = "torchrun" if torchrun else "alone"
            print(f"{name:<28} {start:<9} load {os.getloadavg()[0]:.0f}  {row}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
