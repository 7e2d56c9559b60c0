"""A file for each published format of a benchmark; all give the same items."""
