"""How good results are: measures of pictures and clips, run over many, and their tables.

Needs the extra `[eval]`. Knows no training and no world: truth (pictures, masks, flow) is given.
"""
