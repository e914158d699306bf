"""Reads and checks the configuration files."""
