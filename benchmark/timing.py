"""Interleaved timing: on a machine that others use too, only measurements taken in turn can be compared."""

import statistics
import time
from typing import NamedTuple


class Row(NamedTuple):
    """One measured quantity of one version.

    part, what: the part of the project, and what was done; version: "plain" or the fast way's name.
    median, low, high: the median and the quartiles, in `unit`.
    gain: how many times better than the plain version, None where there is none.
    """

    part: str
    what: str
    version: str
    unit: str
    median: float
    low: float
    high: float
    gain: float | None


def in_turn(versions, rounds, warm_up=1):
    """Run all of {name: function} in turn, after some rounds to warm up; return {name: [seconds]}.

    A function that returns a number has timed itself.
    """
    seconds = {name: [] for name in versions}
    for number in range(warm_up + rounds):
        for name, run in versions.items():
            began = time.perf_counter()
            own = run()
            taken = own if isinstance(own, float) else time.perf_counter() - began
            if number >= warm_up:
                seconds[name].append(taken)
    return seconds


def rows(part, what, unit, measured, per=1.0, rate=0):
    """Return the `Row`s of {name: [seconds]}, the first name being the plain version (or the only one).

    Args:
        per: one second in `unit`: 1000 for ms.
        rate: if given, the unit is `rate` things per run and second instead.
    """
    result, plain = [], None
    for version, seconds in measured.items():
        values = [rate / each if rate else each * per for each in seconds]
        median = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        gain = None if plain is None else (median / plain if rate else plain / median)
        plain = median if plain is None else plain
        result.append(Row(part, what, version, unit, median, low, high, gain))
    return result


def table(measured):
    """Return a Markdown table of `Row`s."""
    lines = ["| part | what | version | median | quartiles | gain |", "|---|---|---|---|---|---|"]
    for row in measured:
        gain = "" if row.gain is None else f"{row.gain:.2f}x"
        spread = f"{row.low:.4g} .. {row.high:.4g}"
        lines.append(f"| {row.part} | {row.what} | {row.version} | {row.median:.4g} {row.unit} | {spread} | {gain} |")
    return "\n".join(lines)
