"""The names of models, their places, and the words that they know. Does not import torch."""
