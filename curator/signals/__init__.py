"""Signals: losses or features -> how probably a given label is clean."""
