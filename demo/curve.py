"""The curve of a run: training loss over steps, and abs_rel of its saved epochs on held-out frames.

    python -m demo.curve --run RUN --evaluation JSON --baselines JSON --out PNG

JSON files as `evaluate_depth.py --all --json` and `demo.baselines --json` write them.
"""

import os
import sys

from demo.results import abs_rel_of_guesses, abs_rel_of_runs, read_json
from system.command_line import Parser, command
from system.errors import UserError
from system.files import refuse_as_output, replacing


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
    baselines = abs_rel_of_guesses(opt.baselines)
    refuse_as_output(opt.out, (".png",), "--out")
    record = read_json(os.path.join(opt.run, "models", "run.json"))
    try:
        steps_per_epoch = record["splits"]["train"]["lines"] // items_a_step(record)
    except (KeyError, TypeError, ZeroDivisionError):
        raise UserError("not the record of a run", f"{opt.run}/models/run.json", "give the folder of a run") from None
    draw(opt.out, steps, losses, epochs, steps_per_epoch, baselines)
    print(opt.out)
    return 0


def items_a_step(record):
    """Return how many items one optimiser step of a run takes."""
    return record["options"]["batch_size"] * record["options"]["grad_accum"] * record["processes"]


def training_loss(run):
    """Return (steps, losses) that TensorBoard holds of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not os.path.isdir(os.path.join(run, "train")):
        raise UserError("no such run", run, "give the folder of a run of train.py")
    events = EventAccumulator(os.path.join(run, "train"))
    events.Reload()
    if "loss" not in events.Tags()["scalars"]:
        raise UserError("no training loss in the run's logs", run, "give the folder of a run of train.py")
    scalars = events.Scalars("loss")
    return [each.step for each in scalars], [each.value for each in scalars]


def held_out(path):
    """Return [(epochs finished, abs_rel)] of an evaluation of all weights, in order of epochs."""
    found = []
    for name, value in abs_rel_of_runs(path).items():
        which = name.removeprefix("weights_")
        if which.isdecimal() or which == "start":
            found.append((0 if which == "start" else int(which) + 1, value))
    if not found:
        raise UserError("no weights_<epoch> in the evaluation", path, "write it with evaluate_depth.py --all")
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
