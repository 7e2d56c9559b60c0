"""Cut long jobs into spans, so that no worker waits for the last one."""

from collections.abc import Sequence

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job
from pnpvideo.options.method import BRANCHES


def most_spans(job: Job) -> int:
    """Return the largest number of spans that each have an inversion batch or more of work."""
    settings = job.settings
    # The area that a text names is found in all frames together.
    if settings.source is None or settings.mask_from_prompt is not None:
        return 1
    return max(1, job.frames // (BRANCHES * settings.batch_size))


def span_counts(
    jobs: Sequence[Job], todo: Sequence[int], folder: BatchFolder, workers: int
) -> dict[int, int]:
    """Return for each job, by its number, into how many spans it is cut; 1 means not at all.

    A job that is more than one worker's fair share of all the work is cut into shares of that size.
    """
    work = {number: jobs[number].frames * len(jobs[number].settings.prompt) for number in todo}
    fair = sum(work.values()) / workers
    counts = {}
    for number in todo:
        job = jobs[number]
        if begun := folder.begun_spans(job):
            counts[number] = int(begun[0].name.rpartition("-")[2])
        elif folder.is_begun(job):
            counts[number] = 1
        else:
            counts[number] = min(workers, most_spans(job), -int(-work[number] // fair))
    return counts
