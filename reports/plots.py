"""Charts and sheets of pictures as PNG and PDF, for papers."""

import os

from reports.charts import labels_of, thinned
from system import files
from system.errors import UserError

ENDINGS = (".png", ".pdf")
CHART_INCHES, DPI = (4.4, 3.0), 200
TILE_INCHES = 2.4  # width of a picture in a sheet
# Okabe and Ito's colours, which the colour-blind tell apart; the pages use relatives of them.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#6f6f6f", "#000000")
DASHES = ("-", "--", "-.", ":")


def check_folder(path, flag="--plots"):
    """Raise `UserError` where a folder of plots could not be made."""
    if path is not None:
        if os.path.exists(path) and not os.path.isdir(path):
            raise UserError("a file stands where a folder is to be", f"{flag} {path}", "give a folder")
        files.check_place(os.path.join(path, "plot.png"), flag)


def write_chart(folder, chart):
    """Write <folder>/<chart.name>.png and .pdf."""
    from matplotlib.figure import Figure

    figure = Figure(CHART_INCHES, layout="constrained")
    axes = figure.add_subplot()
    for number, each in enumerate(chart.series):
        colour = PALETTE[number % len(PALETTE)]
        if chart.categories:
            width = 0.76 / len(chart.series)
            lefts = [x + (number - (len(chart.series) - 1) / 2) * width for x in each.x]
            reach = None
            if each.low:
                reach = [[y - low for y, low in zip(each.y, each.low, strict=True)],
                         [high - y for y, high in zip(each.y, each.high, strict=True)]]  # fmt: skip
            axes.bar(lefts, each.y, width, color=colour, label=_plain(each.name), yerr=reach, capsize=2)
        else:
            x, y = zip(*thinned(each.x, each.y), strict=True) if each.x else ((), ())
            axes.plot(x, y, DASHES[number // len(PALETTE) % len(DASHES)], color=colour, label=_plain(each.name))
    if chart.categories:
        numbers, labels = zip(*labels_of(chart), strict=True)
        axes.set_xticks(numbers, map(_plain, labels), fontsize=8)
    axes.set_xlabel(_plain(chart.x_label))
    axes.set_ylabel(_plain(chart.y_label))
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(chart.series) > 1:
        axes.legend(frameon=False, fontsize=8)
    _save(figure, folder, chart.name)


def write_sheet(folder, name, columns, rows):
    """Write a table of pictures.

    Args:
        columns: the titles.
        rows: [(label, [(H, W, 3) uint8, ...])], as many pictures as columns.
    """
    from matplotlib.figure import Figure

    height, width = rows[0][1][0].shape[:2]
    size = (TILE_INCHES * len(columns), (TILE_INCHES * height / width + 0.22) * len(rows) + 0.2)
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (label, pictures) in zip(grid, rows, strict=True):
        for axes, pixels in zip(line, pictures, strict=True):
            axes.imshow(pixels, interpolation="none")
            axes.set_axis_off()
        line[0].set_title(_plain(label), fontsize=7, loc="left", pad=2)
    for axes, title in zip(grid[0], columns, strict=True):
        if axes is not grid[0][0]:
            axes.set_title(_plain(title), fontsize=7, loc="left", pad=2)
    _save(figure, folder, name)


def _plain(text):
    return text.replace("$", r"\$")  # which would start a formula


def _save(figure, folder, name):
    for ending in ENDINGS:
        unsaid = {"CreationDate": None} if ending == ".pdf" else None
        with files.replacing(os.path.join(folder, name + ending)) as file:
            figure.savefig(file, format=ending[1:], dpi=DPI, metadata=unsaid)
