"""Say what a batch that is started again keeps of an earlier call."""

from pnpvideo.batch.job import Job
from pnpvideo.batch.run_batch import Plan

_NAMED = 3
"""The most jobs that are named."""


def resumed_text(plan: Plan) -> str | None:
    """Return a line about what is used again and what starts anew; None for a new batch."""
    folder, todo = plan.folder, [plan.jobs[number] for number in plan.todo]
    begun = {job.id: job for job in todo if folder.is_begun(job) or folder.begun_spans(job)}
    inverted = [job for job in todo if job.id not in begun and folder.has_inversion(job)]
    anew = [job for job in todo if job.id not in begun and job not in inverted]
    other = folder.begun_by_others(plan.jobs)
    tried = [job for job in todo if folder.record(job).state != "waiting"]
    done = len(plan.jobs) - len(todo)
    if not (done or begun or inverted or other or tried):
        return None
    parts = [f"{done} of {len(plan.jobs)} done"]
    if begun:
        said = [f"{job.shown} after {_far(plan, job)}" for job in [*begun.values()][:_NAMED]]
        more = f" and {len(begun) - _NAMED} more" if len(begun) > _NAMED else ""
        parts.append(f"continuing {', '.join(said)}{more}")
    if inverted:
        parts.append(f"using a finished inversion for {_named(inverted)}")
    if anew:
        parts.append(f"starting {_named(anew)} from the beginning")
    if other:
        count = f"{other} jobs" if other > 1 else "1 job"
        parts.append(f"not using unfinished work on {count} with other settings or sources")
    return f"going on with this batch: {', '.join(parts)}"


def _far(plan: Plan, job: Job) -> str:
    frames, steps = plan.folder.how_far(job)
    if steps:
        return f"{steps} steps of sampling" if steps > 1 else "1 step of sampling"
    return f"the inversion of {frames} of {job.frames} frames"


def _named(jobs: list[Job]) -> str:
    names = ", ".join(job.shown for job in jobs)
    return names if len(jobs) <= _NAMED else f"{len(jobs)} jobs"
