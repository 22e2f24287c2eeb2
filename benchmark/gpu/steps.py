"""Training steps of the real trainer on made-up frames: their speed, and what their stages take and ask for."""

import collections
import contextlib
import os
import statistics
import tempfile

import torch

from benchmark.gpu.meter import Meter
from benchmark.gpu.traffic import Traffic
from cpu import SWITCH
from datasets.jitter import apply_batch
from datasets.on_device import complete
from options import LiteMonoOptions
from trainer import Trainer
from training.data import make_dataset
from training.run.compilation import compiled

WARM_UP = 4  # steps in which cuDNN chooses its kernels, memory is taken and graphs are made
STAGES = {"encoder": "depth encoder", "depth": "depth decoder", "pose_encoder": "pose encoder", "pose": "pose decoder"}


class MadeUpData:
    """Stands for `training.data.TrainingData`: one batch of noise as loader processes hand it out, used again.

    Args:
        opt, objective: of the trainer. device: where batches go. rank: processes of different ranks see other frames.
    """

    steps_per_epoch = 1000

    def __init__(self, opt, objective, device, rank):
        self.frames = (0, *objective.sources)
        self.apply_jitter = compiled(apply_batch, opt.compile, device)
        self.wanted = make_dataset(opt, ["2011_09_26/drive 1 l"], objective, True, True).wanted
        draw, size = torch.Generator().manual_seed(rank), (opt.batch_size, 3, opt.height, opt.width)
        batch = {("color", frame, 0): torch.randint(256, size, dtype=torch.uint8, generator=draw)
                 for frame in self.frames}  # fmt: skip
        jitter = torch.tensor([[1.1, 0, 0, 0], [0.9, 0, 0.1, 0], [1.1, -0.1, 0, 0], [1, 0, 0, 0.05]])
        batch |= {("jitter", frame): jitter.repeat(opt.batch_size, 1, 1) for frame in self.frames}
        K = torch.eye(4)
        K[0, 0], K[1, 1] = 0.58 * opt.width, 1.92 * opt.height
        K[0, 2], K[1, 2] = opt.width / 2, opt.height / 2
        batch |= {("K", 0): K.repeat(opt.batch_size, 1, 1), ("inv_K", 0): K.inverse().repeat(opt.batch_size, 1, 1)}
        batch |= {"flip": torch.arange(opt.batch_size) % 2 == 0, "index": torch.zeros(opt.batch_size, dtype=torch.long)}
        pinned = device.type == "cuda"
        self.batch = {key: value.pin_memory() if pinned else value for key, value in batch.items()}

    def complete(self, batch):
        """Do on the device what items leave to it."""
        return complete(batch, self.wanted, self.apply_jitter)

    def names(self, batch):
        """Return the split lines of a batch's items; noise has none."""
        return []


@contextlib.contextmanager
def training(device, model, batch, height, width, flags=()):
    """Yield (trainer, function that takes one optimiser step) as train.py with these options would have it.

    Args:
        device: name of a torch device.
        flags: further options of train.py.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = ["--device", device, "--model", model, "--batch_size", batch, "--height", height, "--width", width,
                 "--weights_init", "scratch", "--log_dir", folder, *flags]  # fmt: skip
        trainer = Trainer(LiteMonoOptions("train.py").parse([str(word) for word in words]))
        trainer.data = MadeUpData(trainer.opt, trainer.objective, trainer.device, trainer.processes.rank)
        trainer.optimisation.set_epoch(0)
        trainer.network.train()
        yield trainer, lambda: trainer._optimise([trainer.data.batch])


def allow_tf32(allowed):
    """Let float32 products and convolutions round their factors to TF32 on a GPU, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def speed(device, model, batch, height, width, flags, tf32, rounds, steps):
    """Measure steps: {"seconds", "low", "high": of one step, "images_per_second", "peak_gb", "waits"}."""
    with training(device, model, batch, height, width, flags) as (trainer, step):
        meter = Meter(trainer.device)
        allow_tf32(tf32)
        for _ in range(WARM_UP):
            step()
        meter.forget_peak()
        seconds = sorted(meter.seconds(step, steps) for _ in range(rounds))
        median = statistics.median(seconds)
        return {"seconds": median, "low": seconds[0], "high": seconds[-1],
                "images_per_second": batch * trainer.processes.count / median,
                "peak_gb": meter.peak_gb(), "waits": meter.waits(step)}  # fmt: skip


@contextlib.contextmanager
def observed(trainer, enter, leave):
    """Call enter(stage) and leave(stage) around the stages of the trainer's steps."""
    with contextlib.ExitStack() as undo:

        def around(owner, name, stage):
            whole = getattr(owner, name)

            def watched(*args, **kwargs):
                enter(stage)
                try:
                    return whole(*args, **kwargs)
                finally:
                    leave(stage)

            setattr(owner, name, watched)
            undo.callback(setattr, owner, name, whole)

        around(trainer, "prepare", "augmentation")
        around(trainer, "compute_losses", "loss")
        around(trainer.optimisation, "backward", "backward")
        around(trainer.optimisation, "step", "optimiser")
        for name, network in trainer.models.items():
            stage = STAGES.get(name, name)
            for hook in (network.register_forward_pre_hook(lambda *_, stage=stage: enter(stage)),
                         network.register_forward_hook(lambda *_, stage=stage: leave(stage))):  # fmt: skip
                undo.callback(hook.remove)
        yield


def stages(device, model, batch, height, width, flags, tf32, rounds):
    """Measure the stages of a step: {stage: {"seconds", "operations", "gigabytes"}}, "whole step" among them.

    Bytes are counted as a GPU would be asked for them; on a CPU its own fast ways are therefore switched off.
    """
    os.environ[SWITCH] = "1"
    with training(device, model, batch, height, width, flags) as (trainer, step):
        meter = Meter(trainer.device)
        allow_tf32(tf32)
        for _ in range(WARM_UP):
            step()
        seconds = collections.defaultdict(list)
        for _ in range(rounds):
            for stage, value in _timed(trainer, step, meter).items():
                seconds[stage].append(value)
        traffic = _counted(trainer, step)
    result = {stage: {"seconds": statistics.median(values), "operations": traffic.operations[stage],
                      "gigabytes": traffic.bytes[stage] / 1e9} for stage, values in seconds.items()}  # fmt: skip
    result["whole step"] |= {"operations": sum(traffic.operations.values()),
                             "gigabytes": sum(traffic.bytes.values()) / 1e9}  # fmt: skip
    return result


def _timed(trainer, step, meter):
    begun, passed = {}, []
    with observed(trainer, lambda stage: begun.update({stage: meter.mark()}),
                  lambda stage: passed.append((stage, begun[stage], meter.mark()))):  # fmt: skip
        meter.wait()
        begin = meter.mark()
        step()
        end = meter.mark()
    meter.wait()
    seconds = collections.Counter()
    for stage, first, last in passed:
        seconds[stage] += meter.between(first, last)
    return dict(seconds) | {"whole step": meter.between(begin, end)}


def _counted(trainer, step):
    traffic, outer = Traffic(trainer.device), []

    def enter(stage):
        outer.append(traffic.stage)
        traffic.stage = stage

    def leave(stage):
        traffic.stage = outer.pop()

    with observed(trainer, enter, leave), torch.autograd.set_multithreading_enabled(False), traffic:
        step()
    return traffic
