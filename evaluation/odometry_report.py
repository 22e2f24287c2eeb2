"""How an odometry evaluation is told: a table, a plot of the trajectory from above, the files that hold it."""

import io
import os

from datasets.trajectories import straight_line, travelled, write_poses
from evaluation.odometry import align
from system import files

# name in the JSON file: (heading, decimals)
COLUMNS = {
    "ate_5_mean": ("ATE-5 m", 4),
    "ate_5_std": ("+-", 4),
    "ate_sim3_rmse": ("ATE Sim3 m", 3),
    "t_rel": ("t_rel %", 3),
    "r_rel": ("r_rel d/100m", 3),
    "rpe_trans": ("RPE m", 4),
    "rpe_rot": ("RPE deg", 4),
    "length": ("length m", 1),
    "frames": ("frames", 0),
}
TRUTH_COLOUR, PREDICTED_COLOUR = "#222222", "#0072b2"  # told apart in grey, and by the colour-blind


def table(rows):
    """Return the lines of a table of (name, errors as `odometry.errors` returns them)."""
    label = max(len("sequence"), *(len(name) for name, _ in rows)) + 2
    width = max(len(heading) for heading, _ in COLUMNS.values()) + 2
    lines = [f"{'sequence':<{label}}" + "".join(f"{heading:>{width}}" for heading, _ in COLUMNS.values())]
    for name, errors in rows:
        cells = (_cell(errors[key], decimals) for key, (_, decimals) in COLUMNS.items())
        lines.append(f"{name:<{label}}" + "".join(f"{cell:>{width}}" for cell in cells))
    return lines


def _cell(value, decimals):
    return "-" if value is None else f"{value:.{decimals}f}"


def write_trajectory(folder, name, predicted, truth=None):
    """Write <name>.txt, the predicted trajectory as a KITTI pose file in the network's own scale, and <name>.png."""
    write_poses(os.path.join(folder, f"{name}.txt"), predicted)
    files.write_bytes(os.path.join(folder, f"{name}.png"), plot(name, predicted, truth))


def plot(name, predicted, truth=None):
    """Return a PNG's bytes: the way from above, the prediction moved onto the truth by Sim(3), and a straight line.

    Args:
        predicted, truth: trajectories (n, 4, 4); without a truth the prediction is drawn as it is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), dpi=150, layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    if truth is not None:
        axes.plot(*_above(truth), color=TRUTH_COLOUR, linewidth=2, label="true poses")
        line = _aligned(straight_line(truth), truth)
        axes.plot(*_above(line), color="#999999", linestyle=":", label="straight line of equal length (Sim(3)-aligned)")
        predicted = _aligned(predicted, truth)
    label = "predicted" if truth is None else "predicted (Sim(3)-aligned)"
    axes.plot(*_above(predicted), color=PREDICTED_COLOUR, linestyle="--", linewidth=1.5, label=label)
    start = (predicted if truth is None else truth)[0]
    axes.plot(start[0, 3], start[2, 3], "o", color=TRUTH_COLOUR, label="start")
    unit = "" if truth is None else " / m"
    title = name if truth is None else f"{name}, {travelled(truth)[-1]:.0f} m"
    axes.set(xlabel=f"x{unit}", ylabel=f"z{unit}", title=title)
    axes.axis("equal")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _aligned(predicted, truth):
    return align(truth[:, :3, 3], predicted[:, :3, 3]).apply(predicted)


def _above(poses):
    return poses[:, 0, 3], poses[:, 2, 3]
