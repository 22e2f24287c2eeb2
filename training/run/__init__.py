"""A run, whatever it trains: folder, states, processes, signals, precision, loading and logs."""
