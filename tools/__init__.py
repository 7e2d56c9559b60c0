"""What makes the embedded model, the samples and the measurements; not installed."""
