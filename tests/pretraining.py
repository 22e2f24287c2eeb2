"""What the tests of ImageNet pre-training share: its modules, its commands, small images and options."""

import importlib.util
import os
import sys

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "lite-mono-pretrain-code")
sys.path.insert(1, FOLDER)

import timm  # noqa: E402

import classifier  # noqa: E402, F401 (registers the models with timm)
from learner import Learner  # noqa: E402
from pretraining_options import parse  # noqa: E402
from system.distributed import Processes  # noqa: E402


def words(text):
    return text.split()


def load_main(name):
    spec = importlib.util.spec_from_file_location(f"pretraining_{name}", os.path.join(FOLDER, f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


main, export = load_main("main"), load_main("export_encoder")
SMALL = words(
    "--model lite-mono-tiny --nb_classes 3 --input_size 32 --batch_size 4 --num_workers 0 --warmup_epochs "
    "0 --device cpu"
)


def options(*flags):
    return parse([*SMALL, *flags])


def network(opt):
    return timm.create_model(opt.model, num_classes=opt.nb_classes, drop_path_rate=opt.drop_path)


def batch(count=4, size=32, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 3, size, size, generator=generator)
    return {"image": image, "target": torch.arange(count) % classes}


def frozen_learner(*flags):
    torch.manual_seed(0)
    opt = options(*flags)
    model = network(opt).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # statistics are of a batch: with them fixed, sums over batches can be compared
    return Learner(opt, model, torch.device("cpu"), Processes(), 4)


def fails(flags, capsys, command=main):
    """Run a command that must end with exit code 2; return its one line of error."""
    capsys.readouterr()
    assert command(flags) == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in said
    return lines[0]


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key not in ("seconds", "history"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
