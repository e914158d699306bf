"""Mutation testing of the reconciler: `make mutants`."""
