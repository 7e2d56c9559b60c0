"""Training of the embedded model and its synthetic world: artwork, scenes, captions, stages."""
