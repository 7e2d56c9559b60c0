"""Fuzz test of reading: damaged media files of every supported kind must do no harm."""
