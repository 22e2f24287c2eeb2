"""Charts as plain numbers, and where their marks lie on a drawing: one description for pages (SVG) and plots.

Free of torch, jinja2 and matplotlib.
"""

import math
from typing import NamedTuple

WIDTH, HEIGHT = 360, 220  # of a drawing, in pixels of a page
LEFT, RIGHT, TOP, BOTTOM = 48, 18, 10, 38  # margins
MOST_POINTS = 300  # of a line; more are averaged in groups
MOST_MARKS = 40  # lines of at most this many points show them
MOST_LABELS = 6  # along the x axis
LABEL_LETTERS = 50  # of all labels below bars together, with the gaps between them
LEAST_LETTERS = 12  # of a label that had to be cut


class Series(NamedTuple):
    """One line, or one colour of bars: `x` and `y` of equal length (x: the category's number for bars); `low`, `high`:
    ends of the whiskers, or empty."""

    name: str
    x: tuple
    y: tuple
    low: tuple = ()
    high: tuple = ()


class Chart(NamedTuple):
    """name: of its file. categories: names along the x axis; such a chart has bars, one without has lines."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple
    categories: tuple = ()


def thinned(x, y, most=MOST_POINTS):
    """Return a line of at most `most` points, each the mean of equally many neighbours; what is not finite goes."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    size = max(1, math.ceil(len(pairs) / most))
    groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return tuple(tuple(sum(each) / len(group) for each in zip(*group, strict=True)) for group in groups)


def ticks(low, high, count=5):
    """Return about `count` round numbers from `low` to `high`, both within them where `high` is above `low`."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        span, low = 1.0, (low if math.isfinite(low) else 0.0) - 0.5
        high = low + span
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def number_text(value):
    """Return a number as an axis shows it: 0.25, 20k, 1.5e-4."""
    if abs(value) >= 10_000 and value == round(value, -2):
        return f"{value / 1000:g}k"
    if abs(value) >= 1e-3 or abs(value) < 1e-12:
        return f"{value:.6g}"
    return f"{value:.2e}".replace("e-0", "e-").replace("00e", "e").replace("0e", "e").replace(".e", "e")


def labels_of(chart):
    """Return [(number, label)] of the categories that are labelled, each short enough to stand beside the next."""
    count = len(chart.categories)
    longest = max(LEAST_LETTERS, LABEL_LETTERS // count - 1)
    texts = [text if len(text) <= longest else f"{text[: longest - 1]}…" for text in chart.categories]
    every = math.ceil(count / max(1, LABEL_LETTERS // (max(map(len, texts)) + 1)))
    return list(enumerate(texts))[::every]


def drawing(chart):
    """Return a chart's marks in pixels, for the macro that draws it.

    Returns:
        Dict with y_ticks, x_ticks [(position, label)], lines [(series, path)], marks [(series, x, y, text)],
        bars [(series, x, y, width, height, text)], whiskers [(x, top, bottom)].
    """
    values = [value for each in chart.series for value in (*each.y, *each.low, *each.high) if math.isfinite(value)]
    low = min(values, default=0.0)
    levels = ticks(min(low, 0.0) if chart.categories else low, max(values, default=1.0))
    bottom, top = HEIGHT - BOTTOM, TOP

    def y_of(value):
        return bottom - (value - levels[0]) / (levels[-1] - levels[0]) * (bottom - top)

    found = {"y_ticks": [(y_of(level), number_text(round(level, 12))) for level in levels],
             "lines": [], "marks": [], "bars": [], "whiskers": []}  # fmt: skip
    (_bars if chart.categories else _lines)(chart, y_of, found)
    return found


def _lines(chart, y_of, found):
    xs = [value for each in chart.series for value in each.x]
    levels = ticks(min(xs, default=0.0), max(xs, default=1.0), MOST_LABELS - 1)

    def x_of(value):
        return LEFT + (value - levels[0]) / (levels[-1] - levels[0]) * (WIDTH - LEFT - RIGHT)

    found["x_ticks"] = [(x_of(level), number_text(level)) for level in levels]
    for number, each in enumerate(chart.series):
        points = thinned(each.x, each.y)
        path = "M" + "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in points)
        if points:
            found["lines"].append((number, path))
        if len(points) <= MOST_MARKS:
            found["marks"] += [(number, x_of(x), y_of(y), f"{each.name}: {y:.4g} at {x:g}") for x, y in points]


def _bars(chart, y_of, found):
    room = (WIDTH - LEFT - RIGHT) / len(chart.categories)
    width = 0.76 * room / max(1, len(chart.series))
    found["x_ticks"] = [(LEFT + (number + 0.5) * room, text) for number, text in labels_of(chart)]
    for number, each in enumerate(chart.series):
        for index, (x, y) in enumerate(zip(each.x, each.y, strict=True)):
            if not math.isfinite(y):
                continue
            left = LEFT + x * room + 0.12 * room + number * width
            text = f"{each.name}, {chart.categories[x]}: {y:.4g}"
            found["bars"].append((number, left, y_of(y), max(width - 1, 0.5), y_of(0.0) - y_of(y), text))
            if each.low:
                found["whiskers"].append((left + width / 2, y_of(each.high[index]), y_of(each.low[index])))
