"""One run from file to file. Knows neither a queue nor a page."""
