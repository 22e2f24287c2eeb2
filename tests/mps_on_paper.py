"""A training step and predictions on an Apple GPU without one: fake tensors, and a mode that refuses float64 there.

    python -m tests.mps_on_paper train predict

Shapes, types and devices are real, numbers are not. The backward pass is left out: torch's engine knows the streams of
one kind of GPU alone; tests/gpu_on_paper.py takes it on CUDA and finds no float64 there either. Needs g++.
"""

import ctypes
import functools
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.gpu.traffic import tensors


class WithoutFloat64(TorchDispatchMode):
    """Refuses what MPS refuses: a tensor of float64. Reading a number from the device gives one."""

    seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        if name == "aten::_local_scalar_dense":
            return True if args[0].dtype is torch.bool else 1.0 if args[0].is_floating_point() else 1
        result = function(*args, **(kwargs or {}))
        there = [each for each in tensors(result) if each.device.type == "mps"]
        if any(each.dtype in (torch.float64, torch.complex128) for each in there):
            raise TypeError(f"{name}: the MPS framework doesn't support float64")
        self.seen += len(there)
        return result


def pretend():
    """Let torch believe in an Apple GPU; return the mode in which tensors are fake."""
    source = Path(__file__).with_suffix(".cpp")
    with tempfile.TemporaryDirectory() as folder:
        library, home = os.path.join(folder, "pretend.so"), os.path.dirname(torch.__file__)
        subprocess.run(["g++", "-shared", "-fPIC", "-std=c++20", f"-I{home}/include", str(source), f"-L{home}/lib",
                        "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{home}/lib", "-o", library], check=True)  # fmt: skip
        assert ctypes.CDLL(library).install() == 0
    torch.backends.mps.is_available = functools.cache(lambda: True)
    torch.nn.init.trunc_normal_ = lambda tensor, *_, **__: tensor  # asks for values
    torch.nn.Module.to = _moved
    return FakeTensorMode(allow_non_fake_inputs=False)


def _moved(module, device=None, *_, **__):
    """As Module.to, but parameters are replaced instead of set, which fake tensors do not allow across devices."""
    for each in module.modules():
        for name, value in each._parameters.items():
            if value is not None:
                each._parameters[name] = torch.nn.Parameter(value.detach().to(device), value.requires_grad)
        for name, value in each._buffers.items():
            if value is not None:
                each._buffers[name] = value.to(device)
    return module


def train():
    """Take a step of `Trainer` but for the backward pass, whose gradients are made up."""
    from benchmark.gpu import steps

    with steps.training("mps", "lite-mono-tiny", 2, 32, 64, ()) as (trainer, _):
        assert trainer.device.type == "mps"

        def backward(loss):
            assert loss.device.type == "mps" and loss.requires_grad
            for parameter in trainer.network.parameters():
                parameter.grad = torch.empty_like(parameter)

        trainer.optimisation.backward = backward
        for _ in range(2):
            trainer._optimise([trainer.data.batch])


def predict():
    """Predict with the folded networks and with those that are trained."""
    from checkpointing.folders import DepthNetwork
    from inference import predictor
    from networks import DepthDecoder, LiteMono

    encoder = LiteMono("lite-mono-tiny", 32, 64).eval()
    network = DepthNetwork(encoder, DepthDecoder(encoder.num_ch_enc).eval(), 32, 64, encoder.dilations)
    predictor.weights_folder = lambda name: name
    predictor.load_depth_network = lambda *_, **__: network
    predictor.check_finite = lambda *_: None
    for fast in (True, False):
        found = predictor.Predictor("weights", "lite-mono-tiny", "mps", fast=fast, precision="float32")
        assert found.device.type == "mps"
        assert found.predict(torch.empty(1, 3, 32, 64)).device.type == "mps"


def refuses_what_mps_refuses():
    """Show that the mode is there: on the device float64 is an error, on the CPU it is not."""
    there, here = torch.zeros(2, device="mps"), torch.zeros(2, dtype=torch.float64)
    for wrong in (there.double, lambda: here.to("mps"), lambda: torch.zeros(2, dtype=torch.float64, device="mps")):
        try:
            wrong()
        except TypeError:
            continue
        raise AssertionError("float64 was allowed")
    assert here.float().to("mps").cpu().double().dtype is torch.float64


JOBS = {"train": train, "predict": predict}


def main(*jobs):
    """Do jobs, and print how many tensors each made on the device."""
    warnings.filterwarnings("ignore")
    with pretend(), WithoutFloat64() as refusing:
        refuses_what_mps_refuses()
        for job in jobs:
            refusing.seen = 0
            JOBS[job]()
            print(f"{job}: {refusing.seen} tensors, none of float64")


if __name__ == "__main__":
    main(*sys.argv[1:])
