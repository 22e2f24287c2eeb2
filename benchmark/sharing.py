"""Two training runs side by side against one, and one alone against threads that wait by OpenMP's own habit.

The runs are train.py as people start it, on a short drive of the synthetic street, with and without data workers.
"""

import os
import subprocess
import sys
import tempfile
import time

from benchmark.worker import ROOT

DRIVE = "--drives 2 --frames 12 --width 320 --height 96 --samples 1"
RUN = """--split {data}/splits/synthetic --data_path {data} --log_dir {folder} --model_name run --no_cuda
--max_steps {steps} --num_epochs 99 --height 96 --width 320 --batch_size 6 --model lite-mono-tiny
--pose_model_type posecnn --weights_init scratch --profile false --num_workers {workers}"""
WAITING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LONG_SPIN = "300000"  # turns that GNU OpenMP takes by itself
VERSIONS = {"one, OpenMP's own wait": (1, LONG_SPIN), "one": (1, None), "two at once": (2, None)}


def write_street(folder):
    """Write the drive that the runs learn from."""
    subprocess.run([sys.executable, "-m", "demo.street", "--out", folder, *DRIVE.split()],
                   cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def seconds(version, data, workers, steps):
    """Run a version, from start to end; return its seconds by the clock."""
    count, spin = VERSIONS[version]
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment |= {"GOMP_SPINCOUNT": spin} if spin else {}
    with tempfile.TemporaryDirectory() as folder:
        began, runs = time.perf_counter(), []
        for number in range(count):
            words = RUN.format(data=data, folder=os.path.join(folder, str(number)), steps=steps, workers=workers)
            runs.append(subprocess.Popen([sys.executable, "train.py", *words.split()], cwd=ROOT, env=environment,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))  # fmt: skip
        codes = [run.wait() for run in runs]
        took = time.perf_counter() - began
    if any(codes):
        raise RuntimeError(f"a training run of the benchmark ended with code {max(codes)}")
    return took
