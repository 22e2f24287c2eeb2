"""Slow, obvious versions of what is done fast here: tests compare with them, `benchmark.py` measures against them."""
