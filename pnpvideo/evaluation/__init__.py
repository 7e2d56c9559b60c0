"""How good results are: measures of pictures and clips, run over many, and their tables.

Needs the extra `[eval]`. It knows no world and no training: truth (pictures, masks, flow) is given.
"""
