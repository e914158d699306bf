"""Sources of releases, and the store that keeps them."""
