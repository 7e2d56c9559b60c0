"""How long jobs are cut into spans, so that no worker waits for the last one."""

from collections.abc import Sequence

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job
from pnpvideo.options.method import BRANCHES


def most_spans(job: Job) -> int:
    """As many as have work in them: one inversion batch each at least."""
    settings = job.settings
    # What a text names is found in all frames at once.
    if settings.source is None or settings.mask_from_prompt is not None:
        return 1
    return max(1, job.frames // (BRANCHES * settings.batch_size))


def span_counts(
    jobs: Sequence[Job], todo: Sequence[int], folder: BatchFolder, workers: int
) -> dict[int, int]:
    """For the number of each job to do, into how many spans it is cut: 1 is not at all.

    A job that takes more than its fair share of one worker's time is cut into so many shares.
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
