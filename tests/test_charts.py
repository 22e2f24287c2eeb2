"""Charts as numbers: ticks, thinned lines, where marks lie."""

import numpy as np
import pytest

from reports import charts
from reports.charts import Chart, Series


@pytest.mark.parametrize("low, high", [(0, 1), (0.2, 0.35), (-3, 1000), (5e-6, 1e-4), (2, 2), (0, float("nan"))])
def test_ticks_are_few_even_and_around_the_values(low, high):
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 8 and len(set(np.round(np.diff(found) / np.diff(found)[0], 6))) == 1
    if high > low:
        assert found[0] <= low + 1e-12 and found[-1] >= high - 1e-12


def test_numbers_are_short():
    values = (0, 0.25, 1.5e-4, 5e-6, 20_000, 1234)
    assert [charts.number_text(each) for each in values] == ["0", "0.25", "1.5e-4", "5e-6", "20k", "1234"]


def test_long_lines_are_averaged_and_holes_left_out():
    x, y = range(1000), [2.0 * each for each in range(1000)]
    points = charts.thinned(x, y, most=100)
    assert len(points) == 100 and points[0] == (4.5, 9.0)
    assert charts.thinned((1, 2, 3), (1.0, float("nan"), 3.0)) == ((1, 1.0), (3, 3.0))


def test_bars_stand_on_zero_and_are_as_high_as_their_values():
    chart = Chart("a", "A", "x", "y", (Series("one", (0, 1), (1.0, 2.0), (0.5, 1.5), (1.5, 2.5)),), ("p", "q"))
    found = charts.drawing(chart)
    (_, _, top_1, _, high_1, text), (_, _, top_2, _, high_2, _) = found["bars"]
    bottom = charts.HEIGHT - charts.BOTTOM
    assert (top_1 + high_1, top_2 + high_2, high_2) == pytest.approx((bottom, bottom, 2 * high_1))
    assert text == "one, p: 1" and len(found["whiskers"]) == 2


def test_drawings_stay_inside_and_bear_missing_numbers():
    nan = float("nan")
    lines = Chart("a", "A", "x", "y", (Series("one", (0, 5), (nan, 3.0)), Series("two", (), ())))
    assert len(charts.drawing(lines)["lines"]) == 1
    bars = Chart("a", "A", "x", "y", (Series("one", (0,), (nan,)),), ("p",))
    assert not charts.drawing(bars)["bars"]
    for _, x, y, _ in charts.drawing(lines)["marks"]:
        assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT and charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM


@pytest.mark.parametrize(
    "count, name", [(20, "a_long_name_of_weights"), (11, "weights"), (2, "near depth edges"), (1, "x")]
)
def test_labels_share_the_room(count, name):
    chart = Chart("a", "A", "x", "y", (), tuple(f"{name}_{number}" for number in range(count)))
    found = charts.labels_of(chart)
    assert found[0][0] == 0 and sum(len(text) + 1 for _, text in found) <= charts.LABEL_LETTERS
    assert count > 2 or [text for _, text in found] == list(chart.categories)
