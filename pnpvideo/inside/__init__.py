"""Pictures of what happens inside a network. Does not change any result."""
