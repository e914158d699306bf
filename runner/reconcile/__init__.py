"""The reconciler: a pure core, and the probes that it asks (docs/architecture.md)."""
