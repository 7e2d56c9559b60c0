"""Pages of the documentation that are generated at build time."""
