"""Clips and prompts that are given apart, and how they belong together."""

from collections.abc import Mapping, Sequence

from pnpvideo.batch.read_jobs import Entry
from pnpvideo.errors import InputError
from pnpvideo.options.batch import Combine


def combine(
    entries: Sequence[Entry], common: Mapping[str, object], how: Combine | None
) -> list[Entry]:
    """All jobs with all that they are given.

    common: settings of all jobs; a job's own win. Its prompts are for jobs that have none of their
    own. InputError where nothing says which prompt belongs to which clip.
    """
    given = common.get("prompt", ())
    prompts = [given] if isinstance(given, str) else list(given)  # type: ignore[call-overload]
    shared = {name: value for name, value in common.items() if name != "prompt"}
    without = [entry for entry in entries if "prompt" not in entry.values]
    if prompts and not without:
        raise InputError("every job has a prompt of its own; leave out --prompt")
    if how == "pairs" and without and len(without) != len(prompts):
        raise InputError(
            f"{_told(without, prompts)} make no pairs; give as many of both, or --combine product"
        )
    if how is None and len(without) > 1 and len(prompts) > 1:
        raise InputError(
            f"{_told(without, prompts)}: give --combine product for all "
            f"{len(without) * len(prompts)} of them, or pairs for one prompt each"
        )
    jobs: list[Entry] = []
    paired = iter(prompts)
    for entry in entries:
        if entry not in without:
            own = [entry.values]
        elif not prompts:
            raise InputError(f"{entry.place}: give a prompt that says what the result is to show")
        else:
            chosen = [next(paired)] if how == "pairs" else prompts
            own = [entry.values | {"prompt": prompt} for prompt in chosen]
        jobs += [Entry(place=entry.place, values=shared | values) for values in own]
    return jobs


def _told(clips: Sequence[Entry], prompts: Sequence[str]) -> str:
    def counted(number: int, what: str) -> str:
        return f"{number} {what}{'' if number == 1 else 's'}"

    return f"{counted(len(clips), 'clip')} and {counted(len(prompts), 'prompt')}"
