"""What the documentation's pages are made of at build time."""
