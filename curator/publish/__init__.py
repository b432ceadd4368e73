"""A curated version of a run, in a folder or on the Hub."""
