"""What models are called, where they lie and which words they know. Imports no torch."""
