"""Rows in.

A named dataset, a Hub id, a folder or a Dataset object becomes a Table (sources.load), and that a NoisyDataset.
"""
