"""Latents of many frames and noise levels in one safetensors file, written and read in parts.

Plain reads and writes, no memory map: the pages of a map count as memory of the process, and a disk
that fills up would end the process without a word.
"""

import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pnpvideo.errors import InputError, RunError
from pnpvideo.files.atomic_output import write_error

_DTYPES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
_NAME = "latents"


class LatentFile:
    """Indexed as a tensor is: `file[level, frames]` reads (frames, channels, height, width).

    shape: (levels, frames, channels, height, width), with the levels that are not kept.
    kept: the levels in the file, ascending. metadata: texts in the file's header.
    missing: frames that are not written yet, ascending.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: Path,
        *,
        shape: Sequence[int],
        dtype: torch.dtype,
        kept: Sequence[int],
        metadata: Mapping[str, str],
        start: int,
    ) -> None:
        """file: open for what is wanted; start: bytes before the latents. See `create`, `open`."""
        self.shape = torch.Size(shape)
        self.dtype = dtype
        self.kept = tuple(kept)
        self.metadata = dict(metadata)
        self.name = name
        self.missing: list[int] = []
        self._file = file
        self._start = start

    @classmethod
    def create(
        cls,
        file: BinaryIO,
        name: Path,
        *,
        shape: Sequence[int],
        dtype: torch.dtype,
        kept: Sequence[int] | None = None,
        metadata: Mapping[str, str],
    ) -> Self:
        """Room for latents in an empty file; name: what to call it in messages.

        The file has its full size at once. RunError where the disk is full or fails.
        """
        kept = range(shape[0]) if kept is None else kept
        inside = [len(kept), *shape[1:]]
        size = file_size(shape, dtype, kept)
        header = {
            "__metadata__": {
                **metadata,
                "levels": str(shape[0]),
                "kept": " ".join(map(str, kept)),
            },
            _NAME: {"dtype": _DTYPES[dtype], "shape": inside, "data_offsets": [0, size]},
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        try:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + size)
            file.flush()
        except OSError as error:
            raise write_error(name, error) from None
        latents = cls(
            file, name, shape=shape, dtype=dtype, kept=kept, metadata=metadata, start=8 + len(text)
        )
        latents.missing = list(range(shape[1]))
        return latents

    @classmethod
    def open(cls, path: Path, mode: str = "rb") -> Self:
        """A file that `create` or `Trajectory.save` made. InputError where it is something else.

        It counts as written in full.
        """
        try:
            with safe_open(path, framework="pt") as inside:
                metadata = inside.metadata() or {}
                part = inside.get_slice(_NAME)
                shape, dtype = part.get_shape(), part.get_dtype()
            kept = [int(level) for level in metadata.pop("kept", "").split()]
            levels = int(metadata.pop("levels", shape[0]))
            file: BinaryIO = path.open(mode)  # type: ignore[assignment]
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{path} is not a saved trajectory: {error}") from None
        return cls(
            file,
            path,
            shape=(levels, *shape[1:]),
            dtype={name: dtype for dtype, name in _DTYPES.items()}[dtype],
            kept=kept or range(levels),
            metadata=metadata,
            start=8 + int.from_bytes(file.read(8), "little"),
        )

    def __getitem__(self, place: tuple[int, slice | Sequence[int] | Tensor]) -> Tensor:
        """The frames (n, c, h, w) at a level: a slice of them, or by their numbers.

        InputError where the level is not kept, RunError where the file is cut off.
        """
        level, wanted = place[0] % self.shape[0], place[1]
        every = range(self.shape[1])
        frames = every[wanted] if isinstance(wanted, slice) else [every[int(i)] for i in wanted]
        if level not in self.kept:
            raise InputError(
                f"the trajectory does not keep the latents of step {level}; invert again, "
                "with a job folder or in memory, which keep all"
            )
        latents = torch.empty((len(frames), *self.shape[2:]), dtype=self.dtype)
        for frame, room in zip(frames, latents, strict=True):
            self._file.seek(self._place(level, frame))
            if self._file.readinto(bytes_of(room)) < room.nbytes:  # type: ignore[attr-defined]
                raise RunError(f"{self.name} is cut off; delete it and start again")
        return latents

    def write(self, first: int, latents: Tensor) -> None:
        """Write the frames from number `first` on: latents (levels, n, c, h, w), all levels.

        RunError where the disk is full or fails.
        """
        try:
            for level in self.kept:
                self._file.seek(self._place(level, first))
                self._file.write(bytes_of(latents[level].to(self.dtype).contiguous()))
            self._file.flush()
        except OSError as error:
            raise write_error(self.name, error) from None
        written = range(first, first + latents.shape[1])
        self.missing = [frame for frame in self.missing if frame not in written]

    def checksum(self, frames: slice) -> int:
        """CRC-32 of what all kept levels hold of these frames."""
        value = 0
        for level in self.kept:
            value = zlib.crc32(bytes_of(self[level, frames]), value)
        return value

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the same file elsewhere. metadata: what its header holds already."""
        self._file.seek(0)
        with path.open("wb") as copy:
            shutil.copyfileobj(self._file, copy)

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def _place(self, level: int, frame: int) -> int:
        one = self.shape[2:].numel() * self.dtype.itemsize
        return self._start + (self.kept.index(level) * self.shape[1] + frame) * one


def file_size(shape: Sequence[int], dtype: torch.dtype, kept: Sequence[int] | None = None) -> int:
    """Bytes that latents (levels, frames, c, h, w) take, of which some levels are kept."""
    levels = shape[0] if kept is None else len(kept)
    return levels * torch.Size(shape[1:]).numel() * dtype.itemsize


def bytes_of(latents: Tensor) -> memoryview:
    """The memory of a contiguous tensor; numpy knows no bfloat16."""
    return latents.flatten().view(torch.uint8).numpy().data
