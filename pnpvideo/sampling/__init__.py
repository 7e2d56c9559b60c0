"""The method; it knows no file and no command."""
