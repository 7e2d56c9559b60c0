"""What each command does. Knows no torch until a command begins to work."""
