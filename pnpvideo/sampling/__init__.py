"""The method: inversion, injection and sampling. Imports no diffusers, and opens no file."""
