"""Spans of a run that were made one by one, put together as if they were of one run."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pnpvideo.errors import InputError, RunError
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_folder import (
    JOURNAL,
    STATE,
    TRAJECTORY,
    JobFolder,
    identity_of,
    read_state,
)
from pnpvideo.storage.journal import JournaledFile
from pnpvideo.storage.trajectory import Trajectory

_AT_ONCE = 8  # frames that are copied at a time


def join_spans(folders: Sequence[Path], whole: Path) -> None:
    """Make a job folder, of which there is nothing yet, of those in which spans were made.

    Some may be of a span without frames, and hold nothing. RunError where frames are missing.
    """
    folders = [folder for folder in folders if (folder / STATE).exists()]
    try:
        states = sorted((read_state(one / STATE) for one in folders), key=lambda x: x[0].first)
        with JobFolder(whole, keep_state=True) as job:
            trajectory = _join_trajectories(folders, job)
            trajectory.close()
            every = range(trajectory.latents.shape[1])
            sampled = {frame for state, _ in states for frame in every[state.frames]}
            missing = sorted({*every} - sampled | {*trajectory.latents.missing})
            if missing:
                raise RunError(
                    f"frames {missing[0]} to {missing[-1]} are missing of what was made one by one"
                )
            if len({state.steps for state, _ in states}) > 1:
                raise RunError("some of what was made one by one is not sampled to the end")
            last, metadata = states[-1]
            job.state(identity_of(metadata))
            latents = torch.cat([state.latents for state, _ in states], dim=1)
            job.save(DenoisingState(steps=last.steps, latents=latents, generator=last.generator))
    except (InputError, ValueError) as error:
        raise RunError(f"what was made one by one cannot be put together: {error}") from None


def _join_trajectories(folders: Sequence[Path], job: JobFolder) -> Trajectory:
    whole: Trajectory | None = None
    for folder in folders:
        file = JournaledFile.open(folder / TRAJECTORY)
        file.resume(folder / JOURNAL)
        its = Trajectory.of_file(file)
        whole = whole or job.trajectory(
            identity_of(file.metadata), file.shape[1:], its.timesteps, its.prompt, file.dtype
        )
        missing = {*file.missing}
        inverted = [frame for frame in range(file.shape[1]) if frame not in missing]
        for part in whole.unfinished(_AT_ONCE, range(inverted[0], inverted[-1] + 1)):
            levels = [file[level, part] for level in range(file.shape[0])]
            whole.write(part.start, torch.stack(levels))
        file.close()
    if whole is None:
        raise InputError("there is nothing yet")
    return whole
