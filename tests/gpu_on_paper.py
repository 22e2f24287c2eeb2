"""One training step on `cuda:0` without a GPU: fake tensors run the real code, and what it asks for is counted.

    python -m tests.gpu_on_paper BATCH HEIGHT WIDTH [options of train.py]
    python -m tests.gpu_on_paper --compiled BATCH HEIGHT WIDTH [options of train.py], see tests/gpu_fusion.py

prints a JSON object: operations that launch a kernel, GB that they read and write, waits of the host for the device,
and copies to the device that block. A fake tensor has shape, type, device and strides but no numbers. It is a process
of its own, since it puts stand-ins into torch. Needs a CUDA build of torch (not a driver) and g++.
"""

import collections
import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import warnings
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils, _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.gpu.traffic import FREE, bytes_moved

SIZED_BY_VALUES = {"nonzero", "masked_select", "_unique2", "equal"}  # the host has to wait for what they find


def missing():
    """Return what is lacking on this machine, or None."""
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    return None if shutil.which("g++") else "there is no g++"


class Count(TorchDispatchMode):
    """Counts while entered; see the module. `places`: {"file:line": bytes} by the nearest line of the project."""

    def __init__(self):
        super().__init__()
        self.operations, self.bytes = 0, 0
        self.waits, self.blocking_copies, self.places = (collections.Counter() for _ in range(3))
        self.double = collections.Counter()

    def __torch_dispatch__(self, function, types_, args=(), kwargs=None):
        kwargs = kwargs or {}
        space, name = function._schema.name.split("::")
        ins = [each for each in _pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        if name == "_local_scalar_dense":
            if ins[0].is_cuda:
                self.waits[place()] += 1
            return True if ins[0].dtype is torch.bool else 1 if not ins[0].is_floating_point() else 1.0
        by_mask = name.startswith("index") and any(each.dtype in (torch.bool, torch.uint8) for each in ins[1:])
        if (name in SIZED_BY_VALUES or by_mask) and any(each.is_cuda for each in ins):
            self.waits[place()] += 1
        outs_tree = function(*args, **kwargs)
        outs = [each for each in _pytree.tree_leaves(outs_tree) if isinstance(each, torch.Tensor)]
        devices = {each.device.type for each in ins + outs}
        if space == "prim" or "cuda" not in devices:
            return outs_tree
        if name in ("_to_copy", "copy_") and len(devices) == 2:
            to_device = (outs[0] if name == "_to_copy" else ins[0]).is_cuda
            if not to_device:
                self.waits[place()] += 1
            elif not kwargs.get("non_blocking", len(args) > 2 and args[2]):
                self.blocking_copies[place()] += 1
        if name not in FREE:
            moved = bytes_moved(name, ins, outs, "cuda")
            self.operations, self.bytes = self.operations + 1, self.bytes + moved
            self.places[place()] += moved
            if any(each.dtype is torch.float64 and each.numel() > 1 for each in ins + outs):  # not the scaler's scale
                self.double[place()] += 1
        return outs_tree


def place():
    """Return the nearest line of the project on the stack."""
    root, frame = str(Path(__file__).resolve().parents[1]), sys._getframe(2)
    while frame:
        name = frame.f_code.co_filename
        if name.startswith(root) and "site-packages" not in name and name != __file__:
            return f"{name[len(root) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def pretend():
    """Let torch believe in one GPU; return the mode in which tensors are fake."""
    source = Path(__file__).with_suffix(".cpp")
    with tempfile.TemporaryDirectory() as folder:
        library, home = os.path.join(folder, "pretend.so"), os.path.dirname(torch.__file__)
        includes = (f"-I{home}/include", f"-I{home}/include/torch/csrc/api/include")
        subprocess.run(["g++", "-shared", "-fPIC", "-std=c++20", *includes, str(source), f"-L{home}/lib", "-ltorch_cpu",
                        "-lc10", f"-Wl,-rpath,{home}/lib", "-o", library], check=True)  # fmt: skip
        assert ctypes.CDLL(library).install() == 0
    FakeTensorMode.avoid_device_init = property(lambda self: True)
    _foreach_utils._foreach_supported_types.append(FakeTensor)
    torch.nn.init.trunc_normal_ = lambda tensor, *_, **__: tensor  # asks for values
    properties = types.SimpleNamespace(multi_processor_count=132, major=9, minor=0, name="paper", total_memory=80 << 30,
                                       warp_size=32, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
                                       regs_per_multiprocessor=65536, shared_memory_per_block=49152,
                                       shared_memory_per_block_optin=232448, L2_cache_size=50 << 20, gcnArchName="")
    stand_ins = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_name": "paper", "set_device": None,
        "manual_seed_all": None, "_lazy_init": None, "set_rng_state": None,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8), "get_device_capability": (9, 0),
        "get_device_properties": properties,
    }  # fmt: skip
    for name, value in stand_ins.items():
        setattr(torch.cuda, name, lambda *_, value=value: value)
    torch.nn.Module.to = _moved
    return FakeTensorMode(allow_non_fake_inputs=False)


def _moved(module, *args, **kwargs):
    """As Module.to, but parameters are replaced instead of set, which fake tensors do not allow across devices."""
    for each in module.modules():
        for name, value in each._parameters.items():
            if value is not None:
                moved = value.detach().to(*args, **kwargs) if value.dim() == 4 else value.detach().to(args[0])
                each._parameters[name] = torch.nn.Parameter(moved, value.requires_grad)
        for name, value in each._buffers.items():
            if value is not None:
                each._buffers[name] = value.to(args[0])
    return module


class Data:
    """Stands for `TrainingData`: batches as loader processes hand them out for a GPU."""

    steps_per_epoch = 1000

    def __init__(self, opt, objective):
        from training.data import make_dataset

        self.opt, self.frames = opt, (0, *objective.sources)
        self.train_set = make_dataset(opt, ["2011_09_26/x 1 l"], objective, True, True)

    def complete(self, batch):
        from datasets.on_device import complete

        return complete(batch, self.train_set.wanted)

    def names(self, batch):
        return []

    def batch(self):
        count, size = self.opt.batch_size, (self.opt.height, self.opt.width)
        batch = {("color", frame, 0): torch.zeros(count, 3, *size, dtype=torch.uint8) for frame in self.frames}
        batch |= {("jitter", frame): torch.zeros(count, 4, 4) for frame in self.frames}
        batch |= {(name, scale): torch.zeros(count, 4, 4) for name in ("K", "inv_K") for scale in range(3)}
        batch |= {"flip": torch.zeros(count, dtype=torch.bool), "index": torch.zeros(count, dtype=torch.int64)}
        return batch | ({"stereo_T": torch.zeros(count, 4, 4)} if self.opt.use_stereo else {})


def main(argv):
    """Count one step and print what was found; with `-`, those of {name: words} on stdin, and BROKEN for "full"."""
    warnings.filterwarnings("ignore")
    if argv[0] == "--compiled":
        from tests import gpu_fusion

        return gpu_fusion.main(argv[1:])
    steps = json.load(sys.stdin) if argv == ["-"] else {"step": argv}
    found = {}
    with pretend(), tempfile.TemporaryDirectory() as folder, torch.autograd.set_multithreading_enabled(False):
        for name, words in steps.items():
            trainer = make_trainer([str(word) for word in words], folder)
            take_step(trainer)
            found[name] = take_step(trainer)
            if name == "full":  # a further step of the same run for each promise that is broken
                for broken, breaks in BROKEN.items():
                    with contextlib.ExitStack() as mended:
                        breaks(trainer, mended)
                        found[broken] = take_step(trainer)
    print(json.dumps(found if argv == ["-"] else found["step"]))


def make_trainer(argv, folder):
    """Return a Trainer on the GPU that is not there: BATCH HEIGHT WIDTH and options of train.py."""
    from options import LiteMonoOptions
    from trainer import Trainer

    batch, height, width, *flags = argv
    words = ["--batch_size", batch, "--height", height, "--width", width, "--weights_init", "scratch"]
    trainer = Trainer(LiteMonoOptions("train.py").parse([*words, "--log_dir", folder, *flags]))
    trainer.data = Data(trainer.opt, trainer.objective)
    trainer.optimisation.set_epoch(0)
    trainer.network.train()
    return trainer


def take_step(trainer):
    """Take a step of a run; return what it asks for. The first one makes the moments, too."""
    batches = [trainer.data.batch() for _ in range(trainer.opt.grad_accum)]
    with Count() as count:
        try:
            trainer._optimise(batches)
        except DynamicOutputShapeException:  # only values could tell how large a result is, and there are none
            count.waits["a step that ended here"] += 1
    return {
        "operations": count.operations, "gigabytes": count.bytes / 1e9, "waits": dict(count.waits),
        "blocking copies": dict(count.blocking_copies), "float64": dict(count.double),
        "places": dict(count.places.most_common(12)),
    }  # fmt: skip


def _after_the_loss(what):
    def breaks(trainer, mended):
        compute_losses = trainer.compute_losses

        def broken(*given):
            maps, losses = compute_losses(*given)
            what(maps, losses)
            return maps, losses

        mended.callback(setattr, trainer, "compute_losses", compute_losses)
        trainer.compute_losses = broken

    return breaks


def _copies_that_block(trainer, mended):
    prepare = trainer.prepare
    mended.callback(delattr, trainer, "prepare")
    trainer.prepare = lambda batch: prepare({key: value.to("cuda") for key, value in batch.items()})


# Ways to break the promises, to show that the counts notice.
BROKEN = {
    "a number read": _after_the_loss(lambda maps, losses: losses["loss"].item()),
    "pixels chosen by a mask": _after_the_loss(lambda maps, losses: maps["depth", 0, 0][maps["depth", 0, 0] > 1]),
    "copies that block": _copies_that_block,
    "arithmetic in float64": _after_the_loss(lambda maps, losses: maps["depth", 0, 0].double()),
    "one more map": _after_the_loss(lambda maps, losses: maps["color", 1, 0].clone()),
    "a few more operations": _after_the_loss(lambda maps, losses: [losses["loss"] * 2 for _ in range(10)]),
}


if __name__ == "__main__":
    main(sys.argv[1:])
