"""Metres to one unit of a network's depth: found by calibrate_scale.py, kept in metric_scale.json beside the weights.

The network files themselves stay as the published code reads them.
"""

import json
import math
import os
from typing import NamedTuple

from system import files
from system.errors import UserError

FILE_NAME = "metric_scale.json"
CALIBRATE = "run calibrate_scale.py"


class MetricScale(NamedTuple):
    """factor: metres to a unit. spread: its relative standard deviation over images, None of one. images: number of
    them. method: how it was found, in words."""

    factor: float
    spread: float | None
    images: int
    method: str


def write_metric_scale(folder, scale):
    """Write a `MetricScale` into a weights folder; return the file's path."""
    path = os.path.join(folder, FILE_NAME)
    files.write_json(path, scale._asdict())
    return path


def read_metric_scale(folder):
    """Return the `MetricScale` of a weights folder.

    Raises:
        UserError: there is none, or the file is something else.
    """
    path = os.path.join(folder, FILE_NAME)
    try:
        with files.open_regular(path, encoding="utf-8") as file:
            values = json.load(file)
        factor = values["factor"]
        if type(factor) not in (int, float) or not 0 < factor < math.inf:
            raise ValueError(f"factor is {factor}")
        return MetricScale(float(factor), values.get("spread"), values.get("images"), str(values.get("method")))
    except FileNotFoundError:
        raise UserError("these weights have no metric scale", path, CALIBRATE) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError("not a metric scale", f"{path}: {error}", CALIBRATE) from None
