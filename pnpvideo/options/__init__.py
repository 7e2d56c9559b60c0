"""All options, with their limits and defaults. Does not import torch."""
