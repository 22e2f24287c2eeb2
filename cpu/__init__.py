"""What exists only because networks are also trained and run on CPUs."""
