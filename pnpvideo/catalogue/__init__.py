"""Names of models, where they are, and which words they know. Imports no torch."""
