"""Loaded models, and what they answer when called. Knows neither their files nor the sampling."""

from pnpvideo.models.quiet import hide_notices_of_imports

# Before any other file here imports diffusers' pipelines, in whichever process.
hide_notices_of_imports()
