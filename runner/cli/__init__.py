"""The command `warm-reconcile`."""
