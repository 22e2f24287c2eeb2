"""What the trainer leans on: learning rates, resumable states, processes, precision, logs and alarms."""
