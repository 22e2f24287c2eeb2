"""What `make demo` adds to the project's own commands: baselines to beat, and the sheet of pictures at the end."""

import system  # noqa: F401 (first of all: it tells which packages are missing)
