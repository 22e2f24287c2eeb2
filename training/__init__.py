"""The parts of a training run: networks, data, objective, optimisation, validation, weights kept, states, reports."""
