"""A folder that keeps what a run has finished, so that the same run can continue from there.

It has `trajectory.safetensors` with the source's latents, `trajectory.log` with a line for every
batch of pieces that is finished there, during sampling `denoising.safetensors` with the state after
the last finished step, and `lock`.
"""

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pnpvideo.errors import InputError
from pnpvideo.files.file_lock import open_lock, take_lock
from pnpvideo.files.own_names import remove_link
from pnpvideo.files.read_text import JsonObject, parse_json
from pnpvideo.storage import fingerprint
from pnpvideo.storage.allocate import check_room, log_size
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_files import JOURNAL, LOCK, STATE, TRAJECTORY, finished_pieces
from pnpvideo.storage.journal import JournaledFile, part_of, written_whole
from pnpvideo.storage.latent_file import LatentFile, LatentShape, file_size
from pnpvideo.storage.trajectory import Held, Trajectory, describe

_FORMAT = "2"
"""The version of the folder's files. Files of other versions are replaced."""

_HEADER_CHECKSUM = "header"

Identity = dict[str, str]
"""Everything that changes a result, by name (source, size, model, schedule, ...): short texts."""

_log = logging.getLogger(__name__)


class JobFolder:
    """A folder used as a context: `with JobFolder(path) as job: pipeline(..., job=job)`.

    Only one run can use it at a time. When the context ends without an error, the denoising state
    is deleted; the trajectory stays, for other prompts. A file counts only if it is complete and
    belongs to this run: states are written under another name and renamed, and all files have
    checksums.
    """

    def __init__(self, path: str | Path, *, keep_state: bool = False) -> None:
        """keep_state: also keep the denoising state after a context without an error."""
        self.path = Path(path)
        self._keep_state = keep_state
        self._trajectory = self.path / TRAJECTORY
        self._journal = self.path / JOURNAL
        self._state = self.path / STATE
        self._lock: IO[str] | None = None
        self._identity: Identity = {}
        self._resumed: list[str] = []

    def __enter__(self) -> Self:
        """Make the folder and lock it. InputError if it is in use, or is not a job folder."""
        lock = self.path / LOCK
        try:
            if self.path.is_dir() and not lock.exists() and any(self.path.iterdir()):
                raise InputError(
                    f"{self.path} is not empty and not a job folder; choose another folder"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            held = open_lock(lock)
            taken = take_lock(held)
        except FileExistsError:
            raise InputError(f"{self.path} is a file; choose another job folder") from None
        except OSError as error:
            raise InputError(
                f"the job folder {self.path} cannot be used: {error.strerror}"
            ) from None
        if not taken:
            held.seek(0)
            process = held.read().strip()
            held.close()
            raise InputError(
                f"the job folder {self.path} is in use by process {process}; "
                "wait for it, or give another folder"
            )
        for path in (self._trajectory, self._journal, self._state):
            remove_link(path)
            remove_link(part_of(path))
        held.seek(0)
        held.truncate(0)
        held.write(f"{os.getpid()}\n")
        held.flush()
        self._lock = held
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for path in (self._trajectory, self._journal, self._state):
            part_of(path).unlink(missing_ok=True)
        if kind is None and not self._keep_state:
            self._state.unlink(missing_ok=True)
        assert self._lock is not None
        # The system releases the lock, as it does when a process dies.
        self._lock.close()
        self._lock = None

    def _check_locked(self) -> None:
        """Raise InputError outside the context, where another run may use the folder."""
        if self._lock is None:
            raise InputError(
                f"the job folder {self.path} is not open; use it within `with JobFolder(...)`"
            )

    def trajectory(
        self,
        identity: Identity,
        shape: Sequence[int],
        timesteps: tuple[float, ...],
        prompt: str,
        dtype: torch.dtype,
        held: Held = (),
    ) -> Trajectory:
        """Return the source's trajectory with what earlier runs have finished, or an empty one.

        identity: of the inversion; a trajectory of another one is replaced. shape: (pieces,
        channels, height, width). dtype: to store it in. held: see `Trajectory`. All levels are
        kept, so that it can be used with other options too. InputError outside the context,
        RunError if the disk has too little room.
        """
        self._check_locked()
        whole = LatentShape.of((len(timesteps) + 1, *shape))
        # Without an inversion only the clean latents are kept.
        noun = "inversion" if timesteps else "encoded source"
        verb = "reading the source" if timesteps else "encoding"
        header = describe(timesteps, prompt, held) | _signature(identity)
        found, other = self._find_trajectory(identity, whole, header)
        if found is None:
            size = file_size(whole, dtype)
            check_room(size - self._taken(), self.path)
            log_size(size, self.path, whole.pieces)
            # First the journal: without it no piece counts as finished.
            self._journal.unlink(missing_ok=True)
            self._trajectory.unlink(missing_ok=True)
            with written_whole(self._trajectory) as part, part.open("xb") as file:
                LatentFile.create(file, part, shape=whole, dtype=dtype, metadata=header)
            found = JournaledFile.open(self._trajectory, "r+b")
            if other:
                self._resumed.append(f"{verb} again ({other})")
        found.resume(self._journal)
        done = whole.pieces - len(found.missing)
        if not found.missing:
            self._resumed.append(f"reusing the {noun}")
        elif done:
            size = file_size(whole._replace(pieces=len(found.missing)), dtype)
            check_room(size, self.path)
            self._resumed.append(f"{verb} continues after {done} of {whole.pieces} frames")
        return Trajectory.of_file(found)

    def state(self, identity: Identity) -> DenoisingState | None:
        """Return the state after the last finished step, if it has this identity.

        Logs what is reused. `save` stores the next states with the same identity. InputError
        outside the context.
        """
        self._check_locked()
        self._identity = identity
        state, other = self._find_state(identity)
        if state is not None:
            self._resumed.append(f"drawing continues after {state.steps} steps")
        elif other:
            self._resumed.append(f"drawing again ({other})")
        if self._resumed:
            _log.info("job %s: %s", self.path, ", ".join(self._resumed))
        self._resumed = []
        return state

    def save(self, state: DenoisingState) -> None:
        """Store a state in place of the one before. RunError if the disk is full or fails."""
        tensors = {"latents": state.latents.contiguous(), "generator": state.generator}
        if state.velocities is not None:
            tensors["velocities"] = state.velocities.contiguous()
        header = {
            "steps": str(state.steps),
            "first": str(state.first),
            "part": f"{state.under_way.start} {state.under_way.stop}",
            "checksum": fingerprint.of_tensors(sorted(tensors.items())),
            **_signature(self._identity),
        }
        metadata = header | {_HEADER_CHECKSUM: fingerprint.of_values(header)}
        with written_whole(self._state) as part:
            save_file(tensors, part, metadata)

    def _taken(self) -> int:
        """Return how many bytes the trajectory here takes, which replacing it frees."""
        return self._trajectory.stat().st_size if self._trajectory.exists() else 0

    def _find_trajectory(
        self, identity: Identity, shape: LatentShape, header: Mapping[str, str]
    ) -> "tuple[JournaledFile | None, str]":
        """Return the trajectory's file of this identity, or why it is not used: '' for no file.

        shape, header: those of a file of this identity that is not damaged.
        """
        if not self._trajectory.exists():
            return None, ""
        try:
            found = JournaledFile.open(self._trajectory, "r+b")
        except InputError:
            return None, "it was damaged"
        other = _difference(found.metadata, identity)
        is_whole = found.axes == shape and len(found.kept) == shape.levels
        if not other and not (is_whole and found.metadata == header):
            other = "it was damaged"
        if other:
            found.close()
            return None, other
        return found, ""

    def _find_state(self, identity: Identity) -> tuple[DenoisingState | None, str]:
        """Return the state of this identity, or why it is not used: '' for no file."""
        if not self._state.exists():
            return None, ""
        try:
            state, metadata = read_state(self._state)
        except InputError:
            return None, "its state was damaged"
        other = _difference(metadata, identity)
        return (None, other) if other else (state, "")


def read_state(path: Path) -> tuple[DenoisingState, dict[str, str]]:
    """Read a state that `save` wrote, and its header. InputError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names = sorted({"generator", "latents"} | ({"velocities"} & set(file.keys())))
            tensors = {name: file.get_tensor(name) for name in names}
        steps, first = int(metadata["steps"]), int(metadata.get("first", "0"))
        part = range(*map(int, metadata["part"].split())) if "part" in metadata else None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a saved denoising state: {error}") from None
    # States of earlier versions have no checksum of their header.
    header_checksum = metadata.pop(_HEADER_CHECKSUM, None)
    if header_checksum not in (None, fingerprint.of_values(metadata)):
        raise InputError(f"{path} is damaged")
    if metadata.get("checksum") != fingerprint.of_tensors(tensors.items()):
        raise InputError(f"{path} is damaged")
    # Copies, as safetensors may return memory that is mapped to the file.
    latents, generator = tensors["latents"].clone(), tensors["generator"].clone()
    velocities = tensors["velocities"].clone() if "velocities" in tensors else None
    state = DenoisingState(
        steps=steps,
        latents=latents,
        generator=generator,
        first=first,
        part=part,
        velocities=velocities,
    )
    return state, metadata


def identity_of(metadata: Mapping[str, str]) -> Identity:
    """Return the identity in a file's header. InputError if there is none."""
    found = parse_json(metadata.get("identity", ""), "the identity in the header")
    if not isinstance(found, JsonObject):
        raise InputError("the identity in the header is damaged")
    return {name: str(value) for name, value in found.items()}


def how_far(folder: Path) -> tuple[int, int]:
    """Return how many pieces are inverted and steps denoised in a job that another process runs."""
    state, steps = folder / STATE, 0
    # It may be deleted any moment, or be damaged.
    with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError, TypeError):
        if state.exists():
            with safe_open(state, framework="pt") as file:
                steps = int(file.metadata()["steps"])
    return finished_pieces(folder), steps


def _signature(identity: Identity) -> dict[str, str]:
    """Return the part of a file's header that says which run it belongs to."""
    return {"format": _FORMAT, "identity": json.dumps(identity, sort_keys=True)}


def _difference(metadata: Mapping[str, str], identity: Identity) -> str:
    """Return how a stored identity differs, in words; '' if it does not."""
    try:
        stored = identity_of(metadata)
    except InputError:
        return "it belongs to something else"
    if metadata.get("format") != _FORMAT:
        return "another version of pnpvideo made it"
    names = [name for name in identity | stored if stored.get(name) != identity.get(name)]
    return f"other {', '.join(names)}" if names else ""
