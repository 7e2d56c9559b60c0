"""Damages media files of every kind that is read, and sees that none does harm."""
