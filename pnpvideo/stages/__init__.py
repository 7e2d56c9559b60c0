"""The stages of the main path, each a function of a model. Knows no file and no pipeline.

`edit` runs them in order: open, invert, sample, finish.
"""
