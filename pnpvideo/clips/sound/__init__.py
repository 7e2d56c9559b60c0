"""The sound tracks of video files. Knows no pictures."""
