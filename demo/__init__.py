"""What `make demo` adds to the project's own commands: baselines to beat, and the sheet of pictures at the end."""
