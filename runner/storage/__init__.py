"""Reads and writes an app's state directory: the journal, records, the lock, the paths."""
