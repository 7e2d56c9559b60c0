"""Tools that make the embedded model, the samples and the measurements; not installed."""
