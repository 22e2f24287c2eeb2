"""What the trainer leans on: networks behind one forward pass, data, optimisation, validation, alarms, pictures."""
