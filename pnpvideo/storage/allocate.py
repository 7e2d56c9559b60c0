"""Room for a trajectory: in memory, or on disk if it would take too much memory."""

import io
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import torch

from pnpvideo.errors import RunError
from pnpvideo.files.atomic_output import write_error
from pnpvideo.files.available_memory import available_memory
from pnpvideo.options.settings import MachineSettings
from pnpvideo.options.values import DEFAULT_PLACE, DEFAULT_PRECISION, MEMORY_SHARE, Place, Precision
from pnpvideo.storage.latent_file import LatentFile, LatentShape, file_size
from pnpvideo.storage.trajectory import Held, LatentMemory, Trajectory, describe

_SMALL = 2**24

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The place and the precision of a trajectory.

    Attributes:
        place: "memory", "disk" (a file without a name, deleted when the process ends), or "auto":
            in memory if it takes at most MEMORY_SHARE of the free memory. A job folder has its own
            place.
        precision: "half" (float16; float64 latents stay as they are) or "full", that of the
            latents. The same in memory and on disk, so that the result does not depend on it.
        folder: For the file; None is the system's folder for temporary files.
    """

    place: Place = DEFAULT_PLACE
    precision: Precision = DEFAULT_PRECISION
    folder: Path | None = None

    def __post_init__(self) -> None:
        MachineSettings.check("trajectory", self.place)
        MachineSettings.check("trajectory_precision", self.precision)

    def open_file(self) -> tuple[IO[bytes], Path]:
        """Return an empty file without a name, deleted when it is closed, and its folder.

        It is in memory while it is small, or always if that is the place.
        """
        folder = self.folder or Path(tempfile.gettempdir())
        if self.place == "memory":
            return io.BytesIO(), folder
        return tempfile.SpooledTemporaryFile(_SMALL, dir=str(folder)), folder

    def dtype(self, latents: torch.dtype) -> torch.dtype:
        """Return the type in which latents of this type are stored."""
        exact = self.precision == "full" or latents == torch.float64
        return latents if exact else torch.float16


def empty_trajectory(
    shape: Sequence[int],
    timesteps: tuple[float, ...],
    prompt: str,
    storage: Storage,
    dtype: torch.dtype,
    *,
    held: Held = (),
    steps_read: int | None = None,
) -> Trajectory:
    """Return room for the trajectory of a run without a job folder.

    shape: (pieces, channels, height, width); dtype: of the latents; held: see `Trajectory`.
    steps_read: how many of the first steps read the source (None: all); a file keeps these
    levels, z_T and z_0, memory keeps all levels for further runs.
    RunError if the disk has too little room.
    """
    steps, kept_dtype = len(timesteps), storage.dtype(dtype)
    whole = LatentShape.of((steps + 1, *shape))
    in_memory = file_size(whole, kept_dtype) <= MEMORY_SHARE * available_memory()
    if storage.place == "memory" or (storage.place == "auto" and in_memory):
        latents = torch.empty(whole.sizes, dtype=kept_dtype)
        return Trajectory(
            latents=LatentMemory(latents, empty=True),
            timesteps=timesteps,
            prompt=prompt,
            held=held,
        )
    kept = sorted({0, *range(steps if steps_read is None else steps_read), steps})
    folder = storage.folder or Path(tempfile.gettempdir())
    size = file_size(whole, kept_dtype, kept)
    check_room(size, folder)
    log_size(size, folder, whole.pieces)
    try:
        # It has no name, and is deleted when this process ends, in whatever way.
        file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- it outlives this
    except OSError as error:
        raise write_error(folder, error) from None
    metadata = describe(timesteps, prompt, held)
    room = LatentFile.create(
        file, folder, shape=whole, dtype=kept_dtype, kept=kept, metadata=metadata
    )
    return Trajectory.of_file(room)


def check_room(size: int, folder: Path) -> None:
    """Raise RunError if a folder's disk has too little room for a trajectory of so many bytes."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise write_error(folder, error) from None
    if free < size:
        raise RunError(
            f"the source's trajectory needs {_readable(size)} in {folder} and "
            f"only {_readable(free)} is free; make room, give --job FOLDER on another disk, "
            "fewer --frames or --steps, or a smaller --size"
        )


def log_size(size: int, folder: Path, piece_count: int) -> None:
    """Log in advance how many bytes a trajectory will take."""
    _log.info(
        "the source's trajectory (%d frames) takes %s in %s", piece_count, _readable(size), folder
    )


def _readable(size: int) -> str:
    """Return a number of bytes in the unit that people use for it."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{-(-size // 1000)} kB"
