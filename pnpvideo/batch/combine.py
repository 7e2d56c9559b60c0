"""Combine clips and prompts that were given separately into jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pnpvideo.batch.read_jobs import JobEntry
from pnpvideo.errors import InputError
from pnpvideo.options.batch import Combine


def combine(
    entries: Sequence[JobEntry], common: Mapping[str, object], how: Combine | None
) -> list[JobEntry]:
    """Return all jobs with all of their settings.

    common: settings of all jobs; a job's own settings win. Its prompts are for jobs that have none.
    InputError if it is not clear which prompt belongs to which clip.
    """
    given = common.get("prompt", ())
    prompts = [given] if isinstance(given, str) else list(given)  # type: ignore[call-overload]
    shared = {name: value for name, value in common.items() if name != "prompt"}
    without = [entry for entry in entries if "prompt" not in entry.values]
    if prompts and not without:
        raise InputError("every job has its own prompt; leave out --prompt")
    if how == "pairs" and without and len(without) != len(prompts):
        raise InputError(
            f"{_counts_text(without, prompts)} cannot be paired; give as many "
            "prompts as clips, or --combine product"
        )
    if how is None and len(without) > 1 and len(prompts) > 1:
        raise InputError(
            f"{_counts_text(without, prompts)}: give --combine product for all "
            f"{len(without) * len(prompts)} of them, or pairs for one prompt each"
        )
    jobs: list[JobEntry] = []
    paired = iter(prompts)
    for entry in entries:
        if "prompt" in entry.values:
            own = [entry.values]
        elif not prompts:
            raise InputError(f"{entry.place}: give a prompt that says what the result should show")
        else:
            chosen = [next(paired)] if how == "pairs" else prompts
            own = [entry.values | {"prompt": prompt} for prompt in chosen]
        jobs += [replace(entry, values=shared | values) for values in own]
    return jobs


def _counts_text(clips: Sequence[JobEntry], prompts: Sequence[str]) -> str:
    def counted(number: int, what: str) -> str:
        return f"{number} {what}{'' if number == 1 else 's'}"

    return f"{counted(len(clips), 'clip')} and {counted(len(prompts), 'prompt')}"
