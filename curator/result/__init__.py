"""A run's folder: what a finished run is, written and read."""
