"""The method. Knows no file, no command and none of diffusers' classes."""
