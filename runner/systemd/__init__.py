"""Reads the order and start limits of units from systemd, and restarts Docker's unit."""
