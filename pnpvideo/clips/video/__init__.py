"""Video files, through FFmpeg. Knows no still pictures."""
