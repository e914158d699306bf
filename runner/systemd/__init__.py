"""Reads unit files and the order of units from systemd."""
