"""Pages and plots for people: an evaluation, a training run. Each page is one file that needs nothing else."""
