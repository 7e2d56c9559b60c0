"""The commands of the command line. None imports torch before its work begins."""
