"""Spans of a run that were made separately, joined as if one run had made them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pnpvideo.errors import InputError, RunError
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_files import JOURNAL, STATE, TRAJECTORY
from pnpvideo.storage.job_folder import JobFolder, identity_of, read_state
from pnpvideo.storage.journal import JournaledFile
from pnpvideo.storage.trajectory import Trajectory

_AT_ONCE = 8  # pieces that are copied at a time


def join_spans(folders: Sequence[Path], whole: Path) -> None:
    """Make a new job folder from those of separate spans.

    Some may be of an empty span, and have no state. RunError if frames are missing.
    """
    folders = [folder for folder in folders if (folder / STATE).exists()]
    try:
        states = sorted((read_state(one / STATE) for one in folders), key=lambda x: x[0].first)
        with JobFolder(whole, keep_state=True) as job:
            trajectory = _join_trajectories(folders, job)
            trajectory.close()
            every = range(trajectory.piece_count)
            sampled = {number for state, _ in states for number in every[state.pieces]}
            missing = sorted({*every} - sampled | {*trajectory.latents.missing})
            if missing:
                raise RunError(f"no span holds frames {missing[0]} to {missing[-1]}")
            finished = all(state.under_way.stop == state.pieces.stop for state, _ in states)
            if not finished or len({state.steps for state, _ in states}) > 1:
                raise RunError("some spans of the clip are not finished")
            last, metadata = states[-1]
            job.state(identity_of(metadata))
            latents = torch.cat([state.latents for state, _ in states], dim=1)
            job.save(DenoisingState(steps=last.steps, latents=latents, generator=last.generator))
    except (InputError, ValueError) as error:
        raise RunError(f"the spans of a clip cannot be joined: {error}") from None


def _join_trajectories(folders: Sequence[Path], job: JobFolder) -> Trajectory:
    """Copy the inverted pieces of each span's folder into one trajectory."""
    whole: Trajectory | None = None
    for folder in folders:
        file = JournaledFile.open(folder / TRAJECTORY)
        file.resume(folder / JOURNAL)
        part_of_all = Trajectory.of_file(file)
        whole = whole or job.trajectory(
            identity_of(file.metadata),
            (file.axes.pieces, *file.axes.piece),
            part_of_all.timesteps,
            part_of_all.prompt,
            file.dtype,
        )
        missing = {*file.missing}
        inverted = [number for number in range(file.axes.pieces) if number not in missing]
        for part in whole.unfinished(_AT_ONCE, range(inverted[0], inverted[-1] + 1)):
            levels = [file[level, part] for level in range(file.axes.levels)]
            whole.write(part.start, torch.stack(levels))
        file.close()
    if whole is None:
        raise InputError("no span has a state yet")
    return whole
