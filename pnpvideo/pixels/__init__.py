"""Functions of pixels: motion, scenes, masks, sizes. Knows no model and imports no torch."""
