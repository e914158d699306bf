"""Where releases come from, and where they are kept."""
