"""What the page says of a job, as HTML."""

from html import escape

from tqdm import tqdm

from pnpvideo.web.jobs import Job
from pnpvideo.web.limits import Limits
from pnpvideo.web.runner import Runner

IDLE = (
    '<div class="state idle">Give a picture or a clip, say what it is to show, and translate.</div>'
)


def chosen(facts: str | None, limits: Limits) -> str:
    """What a source is; where there is none, what may be one."""
    return escape(facts or f"A picture or a clip of up to {limits.frames} frames, or one of these:")


def tell(job: Job | None, runner: Runner) -> str:
    if job is None:
        return IDLE
    progress, place = runner.progress(job.name), runner.place(job.name)
    if progress is not None and not job.is_over:
        left = ""
        if progress.remaining is not None:
            left = f", {tqdm.format_interval(progress.remaining)} left"
        said = f"{progress.stage}, {progress.share:.0%}{left}"
        return _box("running", said, job=job, share=progress.share)
    if place is not None:
        before = "next in line" if place == 0 else f"number {place + 1} in line"
        said = f"{before}: runs are done one after the other"
        return _box("waiting", said, job=job, share=0.0)
    words = {"done": "done", "failed": "this could not be done", "stopped": "stopped"}
    said = words.get(job.state, "in a moment")
    message = "" if job.message == said else f": {job.message}"
    return _box(job.state, f"{said}{message}", job=job)


def refused(error: Exception) -> str:
    return _box("failed", str(error))


def caption(job: Job) -> str:
    """A line below a picture in the history."""
    state = "" if job.state == "done" else f" ({job.state})"
    return f"{_title(job)}{state}"


def prompts_of(job: Job) -> list[str]:
    prompt = job.values.get("prompt", [])
    return [prompt] if isinstance(prompt, str) else [str(text) for text in prompt]  # type: ignore[attr-defined]


def _title(job: Job) -> str:
    if job.kind == "mask":
        return "how the mask moves"
    kind = "" if job.kind == "translate" else f"{job.kind}: "
    return kind + "; ".join(prompts_of(job))


def _box(state: str, text: str, *, job: Job | None = None, share: float | None = None) -> str:
    of = "" if job is None else f'<div class="of">{escape(_title(job))}</div>'
    bar = "" if share is None else f'<div class="bar"><div style="width:{share:.1%}"></div></div>'
    return f'<div class="state {state}" role="status">{escape(text)}{of}{bar}</div>'
