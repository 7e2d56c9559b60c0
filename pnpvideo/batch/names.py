"""Names of the results of jobs that give none."""

import hashlib
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job
from pnpvideo.batch.read_jobs import JobEntry
from pnpvideo.clips.clip import Clip
from pnpvideo.clips.write import SUFFIXES
from pnpvideo.errors import InputError
from pnpvideo.files.file_names import place_of
from pnpvideo.options.settings import Settings
from pnpvideo.run.outputs import default_name
from pnpvideo.storage import fingerprint

_PROMPT_LENGTH = 48


class Templates(NamedTuple):
    """Templates of a job's name.

    preferred: if nothing else has that name. usual: if something has. apart: if the usual names of
    jobs are still the same, or differ only in a way that not all disks distinguish.
    """

    preferred: str | None
    usual: str
    apart: str | None


_BY_SOURCE, _BY_PROMPT, _BY_DIGEST = "{source}", "{source}-{prompt}", "{source}-{prompt}-{digest}"


class Names:
    """The names of all results of a list of jobs.

    A result keeps the name that it has in the folder from an earlier call, also from versions that
    named all results by their prompts, so that a batch goes on where it was stopped.
    """

    def __init__(
        self,
        entries: Sequence[JobEntry],
        folder: BatchFolder,
        template: str | None,
        *,
        overwrite: bool,
    ) -> None:
        """template: as `--name` takes it; None: the source's own name, or that with the prompt."""
        self._folder, self._template, self._overwrite = folder, template, overwrite
        self._sources = Counter(str(entry.values.get("source")) for entry in entries)
        self._known = folder.named_before()

    def templates(self, settings: Settings) -> Templates:
        """Return the templates of a job's name."""
        if self._template is not None:
            return Templates(None, self._template, None)
        preferred = None if settings.source is None else _BY_SOURCE
        return Templates(preferred, _BY_PROMPT, _BY_DIGEST)

    def is_one_of_several(self, entry: JobEntry, settings: Settings) -> bool:
        """Return whether the source of a job has other results, too."""
        return len(settings.prompt) > 1 or self._sources[str(entry.values.get("source"))] > 1

    def choose(self, templates: Templates, make: Callable[[str], Job], *, taken: int) -> Job:
        """Return the job with the first name that is its own already, or else that is free.

        make: returns the job with the name by a template. taken: how many of the templates give a
        name that other jobs have.
        """
        preferred, usual, apart = templates
        first = None if preferred is None else _made(make, preferred)
        if first is not None and self._is_own(first):
            return first
        second = make(usual)
        if self._is_own(second):
            return second
        # Without an earlier call, no job has such a name yet.
        if apart is not None and (taken > 1 or self._known):
            third = make(apart)
            if taken > 1 or self._is_own(third):
                return third
        if first is None or taken:
            return second
        return first if self._overwrite or self._folder.is_free(first) else second

    def _is_own(self, job: Job) -> bool:
        """Return whether an earlier call had a job of this source and prompt under this name."""
        is_listed = (str(job.outputs.record), job.source, job.settings.prompt) in self._known
        return is_listed or self._folder.record(job).state != "waiting"


def _made(make: Callable[[str], Job], template: str) -> Job | None:
    """Return a job; None if nothing can be written under its name, such as a source's."""
    try:
        return make(template)
    except InputError:
        return None


def name_of(template: str, settings: Settings, clip: Clip | None, number: int) -> str:
    """Return the name of a result by a template. number: that of the job in its list, from 1."""
    stem, suffix = default_name(settings, clip)
    values = {
        "source": stem,
        "prompt": _words(settings.prompt[0]),
        "n": number,
        "seed": settings.seed,
        "digest": fingerprint.of_values(_given(settings))[:8],
    }
    name = string.Formatter().vformat(template, (), values)
    whole = template.endswith("/") or Path(template).suffix.lower() in SUFFIXES
    return name if whole else f"{name}{suffix or '/'}"


def _given(settings: Settings) -> list[object]:
    """Return what gives a result its name. Folders are left out: they may be copied elsewhere."""
    source = settings.guidance_prompt if settings.source is None else Path(settings.source).name
    return [source, *settings.prompt]


def _words(prompt: str) -> str:
    """Return a prompt as a part of a file's name."""
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")
    if not words or len(words) > _PROMPT_LENGTH:
        digest = hashlib.sha256(prompt.encode()).hexdigest()[:4]
        words = f"{words[:_PROMPT_LENGTH].rstrip('-')}-{digest}".lstrip("-")
    return words


def in_the_way(jobs: Sequence[Job]) -> list[int]:
    """Return the numbers of jobs that would write what another one writes or reads on some disk."""
    written = [{place_of(path) for path in job.files} for job in jobs]
    count = Counter(path for paths in written for path in paths)
    above = {folder for path in count for folder in path.parents}
    sources = {place_of(Path(one)) for job in jobs if (one := job.settings.source) is not None}

    def meets(path: Path) -> bool:
        inside = any(folder in count for folder in path.parents)
        return count[path] > 1 or path in sources or path in above or inside

    return [number for number, paths in enumerate(written) if any(map(meets, paths))]
