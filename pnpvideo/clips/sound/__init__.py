"""The sound tracks of video files. Does not handle pictures."""
