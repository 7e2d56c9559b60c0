"""Everything that can be chosen, with its limits and defaults. Imports no torch."""
