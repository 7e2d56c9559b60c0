"""All that knows diffusers' parts; it knows neither the sampling nor the files of a run."""

from pnpvideo.models.quiet import hide_torchvision_notice

# Before any other file here imports diffusers' pipelines, in whichever process.
hide_torchvision_notice()
