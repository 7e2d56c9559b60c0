"""The web page: a face of `run` for people who type no commands. Knows no method, no codec."""
