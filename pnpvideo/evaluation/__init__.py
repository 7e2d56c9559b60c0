"""Quality of results: measures of pictures and clips, run over benchmarks, and their tables.

Needs the extra `[eval]`. Does not know the training or its scenes: ground truth (pictures, masks,
flow) is an argument.
"""
