"""What each command of the command line does; torch is imported where a command begins to work."""
