"""Flow-matching transformers as a `Model`, and a file for each family of them."""
