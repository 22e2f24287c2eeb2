"""Measure the project's parts beside their plain versions: a table on the screen, numbers as JSON, a picture.

Versions of one thing are measured in turn within one run, after a warm-up, and compared by medians, since the machine
may have other work. The plain versions are those of the tests.
"""

import datetime
import os
import sys
from typing import NamedTuple

from benchmark import timing
from benchmark.gpu.command import GPU_PARTS, measure_device, rules
from benchmark.parts import PARTS, SIZES
from networks.model_table import MODELS
from system import files
from system.command_line import Parser, command, positive

BATCHES = (1, 2, 4, 8, 16)
ON_REQUEST = ("ablation", "shared_cores")  # parts that are measured when they are named


class Settings(NamedTuple):
    """What the parts need to know.

    warm_up: rounds of those that run for long before the first that counts.
    forward_passes: (model, (height, width), batch) that inference measures.
    export_weights: folder of trained weights of `model` for the exported files; None: untrained ones of all models.
    export_images: folder of images that int8 is calibrated on and errors are measured on; None: made-up ones.
    """

    quick: bool
    rounds: int
    warm_up: int
    batch: int
    model: str
    no_cuda: bool
    compile: bool
    forward_passes: tuple
    export_weights: str = None
    export_images: str = None


def make_parser():
    """Return the parser of this script."""
    parser = Parser(prog="benchmark.py", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=list(dict.fromkeys((*PARTS, *GPU_PARTS))), metavar="PART",
                        help=f"what to measure, of {' '.join(PARTS)}; without: all but the last ones")  # fmt: skip
    parser.add_argument("--model", default="lite-mono", choices=list(MODELS), help="model of the training step")
    parser.add_argument("--batch_size", type=positive, help="of the training step; default: 4, on CUDA 12")
    parser.add_argument("--rounds", type=positive, help="measurements of each version; 8 without, 2 when quick")
    parser.add_argument("--out", default=os.path.join("tmp", "benchmark"), help="folder for benchmark.json and .png")
    parser.add_argument("--export_weights", metavar="DIR", help="trained weights of --model for the part export")
    parser.add_argument("--export_images", metavar="DIR", help="images to calibrate int8 on and measure errors on")
    Parser.flag(parser, "quick", help="few rounds, and batches and sizes for the base model only: under two minutes")
    Parser.flag(parser, "compile", help="also measure the training step under torch.compile")
    Parser.flag(parser, "no_cuda", help="stay on the CPU")
    group = parser.add_argument_group("what a GPU has to show")
    group.add_argument("--device", help="cuda, cuda:1, or cpu for the same on less: parity with the published code, "
                       f"then speed, memory and promises; --parts are then of {' '.join(GPU_PARTS)}")  # fmt: skip
    group.add_argument("--json", metavar="FILE", help="write what --device found as JSON")
    group.add_argument("--markdown", metavar="FILE", help="write it as a page")
    return parser


def forward_passes(quick):
    """Return the forward passes to measure: all models and sizes at batch 1, all batches for the base model."""
    base = next(iter(MODELS))
    batches = [(base, SIZES[0], batch) for batch in ((1, 4) if quick else BATCHES)]
    singles = [(model, size, 1) for model in MODELS for size in SIZES if (model, size) != (base, SIZES[0])]
    return tuple(batches + ([] if quick else singles))


def machine():
    """Return what the numbers depend on, as plain values."""
    import platform

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "date": datetime.date.today().isoformat(), "processor": f"{platform.machine()} {capability}", "gpu": device,
        "cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def draw(path, measured):
    """Draw the gains over the plain versions as bars, one a row, into a PNG."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [row for row in measured if row.gain is not None]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.28 * len(bars)), layout="constrained")
    names = [f"{row.part}: {row.what}, {row.version} ({row.unit})" for row in bars]
    drawn = axes.barh(range(len(bars)), [row.gain for row in bars], color="tab:blue")
    axes.bar_label(drawn, [f"{row.gain:.2f}x" for row in bars], padding=3)
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)  # room for the labels
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xlabel="times better than the plain version", xscale="log" if bars else "linear")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    pyplot.close(figure)
    files.write_bytes(path, content.getvalue())


@command
def main(argv=None):
    """Measure, print, write."""
    opt = make_parser().parse_args(argv)
    rules(opt, PARTS)
    if opt.device:
        return measure_device(opt)
    parts = opt.parts or [part for part in PARTS if part not in ON_REQUEST]
    os.makedirs(opt.out, exist_ok=True)  # known before minutes of work
    rounds = opt.rounds or (2 if opt.quick else 8)
    warm_up = 1 if opt.quick else 2  # the allocator settles in the second round
    passes = forward_passes(opt.quick)
    settings = Settings(opt.quick, rounds, warm_up, opt.batch_size or 4, opt.model, opt.no_cuda, opt.compile, passes,
                        opt.export_weights, opt.export_images)  # fmt: skip
    facts = machine()
    measured = []
    for part in parts:
        found = PARTS[part](settings)
        measured += found
        print(timing.table(found), end="\n\n", flush=True)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    files.write_json(os.path.join(opt.out, "benchmark.json"),
                     {"machine": facts, "rounds": rounds, "rows": [row._asdict() for row in measured]})  # fmt: skip
    draw(os.path.join(opt.out, "benchmark.png"), measured)
    print(f"written: {opt.out}/benchmark.json and benchmark.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
