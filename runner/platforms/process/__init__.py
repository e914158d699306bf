"""Runs an app as a process of this host."""
