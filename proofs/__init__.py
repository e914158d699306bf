"""Proofs: boots whole machines from scratch, judges claims about them, and writes a report."""
