"""Translate video, frame sequences and images from a text prompt, keeping layout and motion."""

from pnpvideo.clips.clip import Clip, Sound, Timing
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings
from pnpvideo.pipeline import PnPVideoPipeline, PnPVideoPipelineOutput
from pnpvideo.run import Inversion, Translation, translate
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "InputError",
    "Inversion",
    "JobFolder",
    "PnPOptions",
    "PnPVideoPipeline",
    "PnPVideoPipelineOutput",
    "RunError",
    "Settings",
    "Sound",
    "Storage",
    "Timing",
    "Trajectory",
    "Translation",
    "read_clip",
    "translate",
    "write_clip",
]
