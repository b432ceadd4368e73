"""Flags, recipes, and how a run's settings follow from them."""
