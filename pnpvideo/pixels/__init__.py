"""Functions of pixels: motion, scenes, masks, sizes. Does not use models or import torch."""
