"""Video files, through FFmpeg. Does not handle still pictures."""
