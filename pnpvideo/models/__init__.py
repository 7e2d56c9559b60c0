"""How a model answers when it is called. Knows neither its files nor the sampling."""

from pnpvideo.models.quiet import hide_torchvision_notice

# Before any other file here imports diffusers' pipelines, in whichever process.
hide_torchvision_notice()
