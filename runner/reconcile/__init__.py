"""The reconciler: a pure core (see docs/design.md) and one file per outside thing."""
