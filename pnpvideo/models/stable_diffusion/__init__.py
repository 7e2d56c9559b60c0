"""The models of Stable Diffusion 1.x, 2.x and XL. Knows no other family of models."""
