"""What the page says of a job, as HTML."""

from html import escape

from tqdm import tqdm

from pnpvideo.web.jobs import Job
from pnpvideo.web.runner import Runner

IDLE = (
    '<div class="state idle">Give a picture or a clip, say what it is to show, and translate.</div>'
)


def tell(job: Job | None, runner: Runner) -> str:
    if job is None:
        return IDLE
    progress, place = runner.progress(job.name), runner.place(job.name)
    if progress is not None and not job.is_over:
        left = ""
        if progress.remaining is not None:
            left = f", {tqdm.format_interval(progress.remaining)} left"
        return _box("running", f"{progress.stage}, {progress.share:.0%}{left}", progress.share)
    if place is not None:
        before = "next in line" if place == 0 else f"number {place + 1} in line"
        return _box("waiting", f"{before}: runs are done one after the other", 0.0)
    words = {"done": "done", "failed": "this could not be done", "stopped": "stopped"}
    said = words.get(job.state, "in a moment")
    message = "" if job.message == said else f": {job.message}"
    return _box(job.state, f"{said}{message}")


def refused(error: Exception) -> str:
    return _box("failed", str(error))


def caption(job: Job) -> str:
    """A line below a picture in the history."""
    prompt = job.values.get("prompt", "")
    text = prompt[0] if isinstance(prompt, list) and prompt else str(prompt)
    kind = "" if job.kind == "translate" else f"{job.kind}: "
    state = "" if job.state == "done" else f" ({job.state})"
    return f"{kind}{text}{state}"


def _box(state: str, text: str, share: float | None = None) -> str:
    bar = "" if share is None else f'<div class="bar"><div style="width:{share:.1%}"></div></div>'
    return f'<div class="state {state}" role="status">{escape(text)}{bar}</div>'
