"""Slow, obvious versions of what the project does fast: the tests compare with them, `benchmark.py` measures against them."""
