"""Names of the results of jobs that give none."""

import hashlib
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job
from pnpvideo.batch.read_jobs import JobEntry
from pnpvideo.clips.clip import Clip
from pnpvideo.clips.write import SUFFIXES
from pnpvideo.errors import InputError
from pnpvideo.options.settings import Settings
from pnpvideo.run.outputs import default_name

_BY_SOURCE, _BY_PROMPT = "{source}", "{source}-{prompt}"
"""The names of results without a template: the first if nothing is in the way."""

_PROMPT_LENGTH = 48


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

    def templates(self, settings: Settings) -> tuple[str | None, str]:
        """Return the templates of a job's name: the preferred one, if there is one, and another."""
        if self._template is not None:
            return None, self._template
        return None if settings.source is None else _BY_SOURCE, _BY_PROMPT

    def is_one_of_several(self, entry: JobEntry, settings: Settings) -> bool:
        """Return whether the source of a job has other results, too."""
        return len(settings.prompt) > 1 or self._sources[str(entry.values.get("source"))] > 1

    def choose(
        self, preferred: Callable[[], Job] | None, other: Callable[[], Job], *, meets_others: bool
    ) -> Job:
        """Return the job with the first name that is its own already, or else that is free.

        preferred, other: return the job with a name. meets_others: whether the preferred name would
        fit other jobs, too.
        """
        first = None if preferred is None else _made(preferred)
        if first is not None and self._is_own(first):
            return first
        second = other()
        if first is None or meets_others or self._is_own(second):
            return second
        return first if self._overwrite or self._folder.is_free(first) else second

    def _is_own(self, job: Job) -> bool:
        """Return whether an earlier call had a job of this source and prompt under this name."""
        is_listed = (str(job.outputs.record), job.source, job.settings.prompt) in self._known
        return is_listed or self._folder.record(job).state != "waiting"


def _made(make: Callable[[], Job]) -> Job | None:
    """Return a job; None if nothing can be written under its name, such as a source's."""
    try:
        return make()
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
    }
    name = string.Formatter().vformat(template, (), values)
    whole = template.endswith("/") or Path(template).suffix.lower() in SUFFIXES
    return name if whole else f"{name}{suffix or '/'}"


def _words(prompt: str) -> str:
    """Return a prompt as a part of a file's name."""
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")
    if not words or len(words) > _PROMPT_LENGTH:
        digest = hashlib.sha256(prompt.encode()).hexdigest()[:4]
        words = f"{words[:_PROMPT_LENGTH].rstrip('-')}-{digest}".lstrip("-")
    return words


def in_the_way(jobs: Sequence[Job]) -> list[int]:
    """Return the numbers of jobs that would write what another one writes or reads.

    On some disks a name in capitals is the same as one in small letters.
    """
    written = [{_place(path) for path in job.files} for job in jobs]
    count = Counter(path for paths in written for path in paths)
    above = {folder for path in count for folder in path.parents}
    sources = {_place(Path(one)) for job in jobs if (one := job.settings.source) is not None}

    def meets(path: Path) -> bool:
        inside = any(folder in count for folder in path.parents)
        return count[path] > 1 or path in sources or path in above or inside

    return [number for number, paths in enumerate(written) if any(map(meets, paths))]


def _place(path: Path) -> Path:
    return Path(str(path.resolve()).casefold())
