"""Kill a small training run again and again, resume it each time, and compare its end with an undisturbed run's.

    python -m tests.kill_and_resume --kills 20
    python -m tests.kill_and_resume --kills 20 --signals TERM

Processes are forked from this one, so that a life costs no start of Python; nothing is shared with them but the files.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from system.command_line import Parser, command
from tests.short_runs import arguments, assert_same_end

FLAGS = ("--num_epochs", "3", "--save_steps", "1", "--keep_states", "2", "--val_steps", "2")
EXPECTED_ENDS = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (128 + signal.SIGTERM, -signal.SIGTERM)}


def live(argv, delay=None, signum=signal.SIGKILL):
    """Train in a forked process, and send it a signal `delay` seconds after its first step, which may be unsaved yet.

    Returns:
        the exit code, negative for a signal that killed it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _train_and_exit(argv, writer)
    os.close(writer)
    os.read(reader, 1)  # a step is done, or the process has ended
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signum)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(reader)
    return code


def _train_and_exit(argv, writer):
    code = 70
    try:
        import train
        import trainer

        whole = trainer.Trainer._optimise

        def optimise(self, batches):
            result = whole(self, batches)
            os.write(writer, b".")
            return result

        trainer.Trainer._optimise = optimise
        code = train.main(argv)
    finally:
        sys.stdout.flush()
        os._exit(code)


def has_states(folder):
    """Whether a run in `folder` has anything to resume from."""
    return any((Path(folder) / "run" / "states").glob("state_*.pt"))


def kill_and_resume(data, folder, kills, signals=(signal.SIGKILL,), longest=None, seed=0, more=(), tell=print):
    """Kill runs `kills` times in all by each signal, each resumed until it has finished.

    Args:
        data: data path of a synthetic drive.
        folder: for the runs.
        longest: seconds from a life's first step to its end at most; a third of the undisturbed run's if not said.
        more: further arguments for train.py.

    Raises:
        AssertionError: a life ended otherwise than expected, or a run's end differs from the undisturbed one's.
    """
    import torch._dynamo  # noqa: F401  (the forked processes find both loaded; optimisers import it)

    import trainer  # noqa: F401

    chance, folder = random.Random(seed), Path(folder)
    began = time.monotonic()
    assert live(arguments(data, folder / "undisturbed", *FLAGS, *more)) == 0
    longest = longest or (time.monotonic() - began) / 3
    for signum in signals:
        _kill_and_resume(data, folder, kills, signum, longest, chance, more, tell)


def _kill_and_resume(data, folder, kills, signum, longest, chance, more, tell):
    killed, runs = 0, 0
    while killed < kills:
        home, ended, lives = folder / f"{signum.name}_{runs}", False, 0
        while not ended:
            resume = ["--resume"] if has_states(home) else []
            delay = chance.uniform(0, longest) if killed < kills else None
            code = live(arguments(data, home, *FLAGS, *more, *resume), delay, signum)
            lives += 1
            ended = code == 0
            killed += not ended
            assert ended or code in EXPECTED_ENDS[signum], f"a life ended with {code}"
        assert_same_end(folder / "undisturbed" / "run", home / "run")
        shutil.rmtree(home)
        runs += 1
        tell(f"run {runs}: {lives} lives, {killed} of {kills} kills by {signum.name}, the end equals the undisturbed "
             "run's")  # fmt: skip


@command
def main(argv=None):
    """Run the command line."""
    from demo.street.__main__ import main as write_drive

    parser = Parser(prog="-m tests.kill_and_resume", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="in all, by each signal")
    parser.add_argument("--signals", nargs="+", choices=("KILL", "TERM"), default=["KILL"], help="which signals")
    parser.add_argument("--longest", type=float, help="seconds of a life at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--num_workers", default="0", help="processes that load data, in each run")
    opt = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        drive = Path(folder) / "drive"
        write_drive(
            [
                "--out",
                str(drive),
                *["--drives", "1", "--frames", "13", "--width", "128", "--height", "64", "--samples", "1"],
            ]
        )
        more = ("--num_workers", opt.num_workers)
        signals = [signal.Signals[f"SIG{name}"] for name in opt.signals]
        kill_and_resume(drive, Path(folder) / "runs", opt.kills, signals, opt.longest, opt.seed, more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
