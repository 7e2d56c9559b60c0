"""diffusers' contract over the stages, a file for each family. Knows no output file."""
