"""The review: a finished run, read and shown."""
