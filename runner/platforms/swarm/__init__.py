"""Runs an app as a stack of Docker Swarm."""
