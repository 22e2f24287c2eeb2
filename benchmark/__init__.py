"""Measurements behind `benchmark.py`: each part of the project beside its plain version, in one interleaved run."""

import system  # noqa: F401 (first of all: it tells which packages are missing)
