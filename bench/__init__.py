"""Measurements: python -m bench.NAME, from the repository."""
