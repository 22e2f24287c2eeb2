"""The curve of a run: training loss over steps, and abs_rel of its saved epochs on held-out frames.

    python -m demo.curve --run RUN --evaluation JSON --baselines JSON --out PNG

JSON files as `evaluate_depth.py --all --json` and `demo.baselines --json` write them.
"""

import json
import os
import sys

from system.command_line import Parser, command
from system.errors import UserError
from system.files import replacing


@command
def main(argv=None):
    """Draw the curve and say where it is."""
    parser = Parser(prog="-m demo.curve", description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="the run's folder")
    parser.add_argument("--evaluation", required=True, help="JSON of evaluate_depth.py --all")
    parser.add_argument("--baselines", required=True, help="JSON of demo.baselines")
    parser.add_argument("--out", required=True, help="the PNG to write")
    opt = parser.parse_args(argv)
    steps, losses = training_loss(opt.run)
    epochs = held_out(opt.evaluation)
    with open(opt.baselines, encoding="utf-8") as file:
        baselines = {name: figures["abs_rel"] for name, figures in json.load(file).items()}
    with open(os.path.join(opt.run, "models", "run.json"), encoding="utf-8") as file:
        record = json.load(file)
    batch = record["options"]["batch_size"] * record["options"]["grad_accum"] * record["processes"]
    draw(opt.out, steps, losses, epochs, record["splits"]["train"]["lines"] // batch, baselines)
    print(opt.out)
    return 0


def training_loss(run):
    """Return (steps, losses) that TensorBoard holds of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(os.path.join(run, "train"))
    events.Reload()
    if "loss" not in events.Tags()["scalars"]:
        raise UserError("no training loss in the run's logs", run, "give the folder of a run of train.py")
    scalars = events.Scalars("loss")
    return [each.step for each in scalars], [each.value for each in scalars]


def held_out(path):
    """Return [(epochs finished, abs_rel)] of an evaluation of all weights, in order of epochs."""
    with open(path, encoding="utf-8") as file:
        runs = json.load(file)
    found = []
    for run in runs:
        which = os.path.basename(run["predictions"]).removeprefix("weights_")
        if which.isdecimal() or which == "start":
            found.append((0 if which == "start" else int(which) + 1, run["metrics"]["abs_rel"]))
    return sorted(found)


def draw(path, steps, losses, epochs, steps_per_epoch, baselines):
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    above.plot(steps, losses, color="tab:gray")
    above.set_ylabel("training loss")
    finished, values = zip(*epochs, strict=True)
    below.plot([epoch * steps_per_epoch for epoch in finished], values, marker=".", label="network")
    for (name, value), style in zip(baselines.items(), ("--", ":"), strict=False):
        below.axhline(value, color="black", linestyle=style, linewidth=1, label=name)
    below.set_ylim(bottom=0)
    below.set_ylabel("abs_rel, held-out drive")
    below.set_xlabel("optimiser steps")
    below.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
