"""What talks to the operating system or the terminal, and nothing else."""
