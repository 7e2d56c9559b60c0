"""Latents of many pieces and noise levels in one safetensors file, written and read in parts.

Plain reads and writes, no memory map: the pages of a map count as memory of the process, and a disk
that fills up would end the process without a message.
"""

import json
import math
import shutil
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

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


class LatentShape(NamedTuple):
    """The shape of a trajectory's latents by axis.

    levels: noise levels. pieces: what goes through the network as one item: frames for models of
    images. piece: the shape of one: (channels, height, width) for models of images.
    """

    levels: int
    pieces: int
    piece: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "LatentShape":
        """Name the axes of a tensor's sizes, (levels, pieces, *piece)."""
        return cls(sizes[0], sizes[1], tuple(sizes[2:]))

    @property
    def sizes(self) -> torch.Size:
        """The shape as a tensor has it: (levels, pieces, *piece)."""
        return torch.Size((self.levels, self.pieces, *self.piece))


class LatentFile:
    """A file that is indexed like a tensor: `file[level, pieces]` reads (n, *piece).

    axes: its shape, including the levels that are not kept. kept: the levels in the file,
    ascending. metadata: texts in the file's header. missing: pieces that are not written yet,
    ascending. Several threads may read it.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: Path,
        *,
        shape: LatentShape,
        dtype: torch.dtype,
        kept: Sequence[int],
        metadata: Mapping[str, str],
        start: int,
    ) -> None:
        """See `create` and `open`. start: bytes before the latents."""
        self.axes = shape
        self.dtype = dtype
        self.kept = tuple(kept)
        self.metadata = dict(metadata)
        self.name = name
        self.missing: list[int] = []
        self._file = file
        self._start = start
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        file: BinaryIO,
        name: Path,
        *,
        shape: LatentShape,
        dtype: torch.dtype,
        kept: Sequence[int] | None = None,
        metadata: Mapping[str, str],
    ) -> Self:
        """Make room for latents in an empty file; name: what to call it in messages.

        kept: the levels that the file has room for; None: all. The file has its full size at once.
        RunError if the disk is full or fails.
        """
        kept = range(shape.levels) if kept is None else kept
        inside = shape._replace(levels=len(kept)).sizes
        size = file_size(shape, dtype, kept)
        header = {
            "__metadata__": {
                **metadata,
                "levels": str(shape.levels),
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
        latents.missing = list(range(shape.pieces))
        return latents

    @classmethod
    def open(cls, path: Path, mode: str = "rb") -> Self:
        """Open a file that `create` or `Trajectory.save` made. InputError for any other file.

        It counts as written in full.
        """
        try:
            with safe_open(path, framework="pt") as inside:
                metadata = inside.metadata() or {}
                part = inside.get_slice(_NAME)
                shape, dtype = part.get_shape(), part.get_dtype()
            kept = [int(level) for level in metadata.pop("kept", "").split()]
            if len(shape) < 3:
                raise ValueError(
                    f"latents of shape {tuple(shape)} have no axes for levels and pieces"
                )
            levels = int(metadata.pop("levels", shape[0]))
            kept = kept or list(range(levels))
            in_order = kept == sorted(set(kept)) and len(kept) == shape[0]
            if not in_order or not all(0 <= level < levels for level in kept):
                raise ValueError(f"latents of {shape[0]} levels cannot be those of {levels}")
            latent_type = {name: dtype for dtype, name in _DTYPES.items()}[dtype]
            file: BinaryIO = path.open(mode)  # type: ignore[assignment]
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is not a saved trajectory: {error}") from None
        return cls(
            file,
            path,
            shape=LatentShape.of((levels, *shape[1:])),
            dtype=latent_type,
            kept=kept,
            metadata=metadata,
            start=8 + int.from_bytes(file.read(8), "little"),
        )

    @property
    def shape(self) -> torch.Size:
        return self.axes.sizes

    def __getitem__(self, place: tuple[int, slice | Sequence[int] | Tensor]) -> Tensor:
        """Read pieces at a level, (n, *piece): a slice of them, or some by their numbers.

        InputError if the level is not kept or the file closed, RunError if the file is cut off.
        """
        level, wanted = place[0] % self.axes.levels, place[1]
        every = range(self.axes.pieces)
        numbers = every[wanted] if isinstance(wanted, slice) else [every[int(i)] for i in wanted]
        if level not in self.kept:
            raise InputError(
                f"the trajectory does not keep the latents of step {level}; invert again, "
                "with a job folder or in memory, where all are kept"
            )
        latents = torch.empty((len(numbers), *self.axes.piece), dtype=self.dtype)
        with self._alone() as file:
            for number, room in zip(numbers, latents, strict=True):
                file.seek(self._place(level, number))
                if file.readinto(bytes_of(room)) < room.nbytes:  # type: ignore[attr-defined]
                    raise RunError(f"{self.name} is cut off; delete it and start again")
        return latents

    def write(self, first: int, latents: Tensor) -> None:
        """Write the pieces from number `first` on: latents (levels, n, *piece), all levels.

        RunError if the disk is full or fails.
        """
        for level in self.kept:
            self.write_level(level, first, latents[level])
        self.finish(first, LatentShape.of(latents.shape).pieces)

    def write_level(self, level: int, first: int, latents: Tensor) -> None:
        """Write the pieces from number `first` on at one level, (n, *piece), if it is kept.

        They are missing until `finish`. RunError if the disk is full or fails.
        """
        if level not in self.kept:
            return
        try:
            with self._alone() as file:
                file.seek(self._place(level, first))
                file.write(bytes_of(latents.to(self.dtype).contiguous()))
        except OSError as error:
            raise write_error(self.name, error) from None

    def finish(self, first: int, count: int) -> None:
        """Count pieces as written, once all their levels have been written.

        RunError if the disk is full or fails.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise write_error(self.name, error) from None
        self.missing = without(self.missing, first, count)

    def checksum(self, pieces: slice) -> int:
        """Return the CRC-32 of these pieces at all kept levels."""
        value = 0
        for level in self.kept:
            value = zlib.crc32(bytes_of(self[level, pieces]), value)
        return value

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the same file elsewhere. metadata: ignored, as the header has it already.

        InputError if the file is closed.
        """
        with self._alone() as file, path.open("wb") as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy)

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    @contextmanager
    def _alone(self) -> Iterator[BinaryIO]:
        """Yield the file, whose position no other thread moves within. InputError if closed."""
        with self._lock:
            if self._file.closed:
                raise InputError(
                    "the trajectory is closed, as its run has ended; give the source itself"
                )
            yield self._file

    def _place(self, level: int, number: int) -> int:
        """Return the position in the file of a piece at a level, in bytes."""
        one = math.prod(self.axes.piece) * self.dtype.itemsize
        return self._start + (self.kept.index(level) * self.axes.pieces + number) * one


def without(missing: Sequence[int], first: int, count: int) -> list[int]:
    """Return the missing pieces after so many from number `first` on are written."""
    written = range(first, first + count)
    return [number for number in missing if number not in written]


def file_size(shape: LatentShape, dtype: torch.dtype, kept: Sequence[int] | None = None) -> int:
    """Return how many bytes latents take, if only some levels are kept; None: all are."""
    levels = shape.levels if kept is None else len(kept)
    return levels * shape.pieces * math.prod(shape.piece) * dtype.itemsize


def bytes_of(latents: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor, as bytes, since numpy has no bfloat16."""
    return latents.flatten().view(torch.uint8).numpy().data
