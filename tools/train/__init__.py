"""The embedded model and its world: artwork, scenes, captions, and the stages of training."""
