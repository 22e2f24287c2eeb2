"""Behind `python -m benchmark --device cuda`: what a GPU has to show, from parity with the reference to its speed."""
