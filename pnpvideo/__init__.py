"""Translate video, frame sequences and images from a text prompt, keeping layout and motion."""

from pnpvideo.clip import Clip, Sound, Timing
from pnpvideo.errors import InputError, RunError
from pnpvideo.job_folder import JobFolder
from pnpvideo.keep_trajectory import Storage
from pnpvideo.options import PnPOptions
from pnpvideo.pipeline import PnPVideoPipeline, PnPVideoPipelineOutput
from pnpvideo.read_clip import read_clip
from pnpvideo.settings import Settings
from pnpvideo.trajectory import Trajectory
from pnpvideo.translate import Inversion, Translation, translate
from pnpvideo.write_clip import write_clip

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
