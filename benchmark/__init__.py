"""Measurements behind `benchmark.py`: each part of the project beside its plain version, in one interleaved run."""
