"""Measurement of runs' speed and memory against the plain method. Does not use the training."""
