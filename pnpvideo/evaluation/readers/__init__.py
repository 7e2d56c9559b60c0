"""Readers of published benchmarks, one file for each format; all return the same items."""
