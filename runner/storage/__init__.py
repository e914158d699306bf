"""Keeps the journal and other state on the disk."""
