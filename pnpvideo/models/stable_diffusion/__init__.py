"""How Stable Diffusion 1.x, 2.x and XL answer. Knows no other family of models."""
