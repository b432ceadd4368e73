"""Curator called from Python: its keywords, what they take, and what comes back."""
