"""From what jobs are given to runs that are known to be possible."""

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pnpvideo.batch.addresses import fetch
from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, stamp_of
from pnpvideo.batch.read_jobs import Entry
from pnpvideo.clips.clip import Clip
from pnpvideo.errors import InputError
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.method import Lifetime, MethodOptions, PnPOptions
from pnpvideo.options.paths import is_address
from pnpvideo.options.settings import MachineSettings, ModelSettings, Settings, SourceSettings
from pnpvideo.run.opening import check_additions, read_inputs
from pnpvideo.run.outputs import default_name, plan_outputs
from pnpvideo.storage import fingerprint

_NAME_LENGTH = 48
_READ = ("source", "mask", "control_image", "ip_adapter_image")
"""Settings whose files may be at addresses."""


def plan(entries: Sequence[Entry], folder: BatchFolder) -> list[Job]:
    """The runs of all entries, their results in the folder of a batch.

    InputError, with the place in the list, for the first that cannot be run, or that would write
    over another one's files. Changes nothing, but copies sources that are at addresses.
    """
    jobs: list[Job] = []
    for entry in entries:
        try:
            jobs.append(_plan_one(entry, folder))
        except InputError as error:
            text = str(error)
            said = text if text.startswith(entry.place) else f"{entry.place}: {text}"
            raise InputError(said) from None
    _check_apart(jobs)
    return jobs


def _plan_one(entry: Entry, folder: BatchFolder) -> Job:
    values = {name: _copied(name, value, folder) for name, value in entry.values.items()}
    settings = Settings.of(values)
    with contextlib.ExitStack() as open_things:
        clip = read_inputs(settings, open_things).clip
        check_additions(settings)
        named = settings.output or _name(settings, clip)
        # A path would drop a slash at the end, which names a folder.
        place = f"{folder.output / Path(named).expanduser()}{'/' * named.endswith('/')}"
        settings = Settings.of(values | {"output": place})
        return Job(
            id=fingerprint.of_values(_what_it_makes(settings), _stamps(settings)),
            place=entry.place,
            source=None if settings.source is None else str(entry.values["source"]),
            settings=settings,
            outputs=plan_outputs(settings, clip, overwrite=True),
            frames=1 if clip is None else len(clip),
            inversion=_inversion(settings),
            model=fingerprint.of_values(settings.part(ModelSettings), _adapter(settings)),
        )


def _copied(name: str, value: object, folder: BatchFolder) -> object:
    """The value of a setting, with a copy in place of a file to read that is at an address."""
    if name in _READ and isinstance(value, str) and is_address(value):
        return str(fetch(value, folder.path / "sources"))
    return value


def _name(settings: Settings, clip: Clip | None) -> str:
    """For source and prompt, so that it stays when other jobs come and go."""
    stem, suffix = default_name(settings, clip)
    prompt = settings.prompt[0]
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")
    if not words or len(words) > _NAME_LENGTH:
        digest = hashlib.sha256(prompt.encode()).hexdigest()[:4]
        words = f"{words[:_NAME_LENGTH].rstrip('-')}-{digest}".lstrip("-")
    return f"{stem}-{words}{suffix or '/'}"


def _what_it_makes(settings: Settings) -> Mapping[str, object]:
    """All that changes the result, or where it is."""
    machine = MachineSettings.model_fields.keys() - {"trajectory_precision"} | {"device", "offload"}
    open_ones = MethodOptions.model_fields.keys() - settings.model_fields_set
    return settings.model_dump(mode="json", exclude={*machine, *open_ones})


def _inversion(settings: Settings) -> str | None:
    """The same for runs that need the same inversion; a generated source keeps none."""
    if settings.source is None:
        return None
    method = {
        name
        for name in settings.model_fields_set & MethodOptions.model_fields.keys()
        if PnPOptions.lifetime(name) is Lifetime.INVERSION
    }
    names = {*SourceSettings.model_fields, *ModelSettings.model_fields, *method}
    values = settings.model_dump(
        mode="json", include=names - {"device", "offload"} | {"preset", "trajectory_precision"}
    )
    return fingerprint.of_values(values, _stamps(settings)[:2], _adapter(settings))


def _adapter(settings: Settings) -> dict[str, object]:
    """The IP-Adapter that a model is loaded with; whatever it reads."""
    return {k: v for k, v in settings.part(AdapterSettings).items() if k != "ip_adapter_image"}


def _stamps(settings: Settings) -> list[str]:
    """What tells that a source, or what else is read beside it, was changed in its place."""
    given = (
        settings.source,
        settings.control_image,
        settings.mask,
        settings.ip_adapter_image,
    )
    return ["" if path is None else stamp_of(Path(path)) for path in given]


def _check_apart(jobs: Sequence[Job]) -> None:
    """InputError where a job would write what another one writes or reads."""
    sources = {
        Path(job.settings.source).resolve(): job for job in jobs if job.settings.source is not None
    }
    written: dict[Path, Job] = {}
    for job in jobs:
        for path in job.files:
            place = path.resolve()
            other = next((written[one] for one in (place, *place.parents) if one in written), None)
            if other is not None:
                raise InputError(
                    f"{job.place} and {other.place} would both write {path}; give one of them "
                    "another output"
                    if other.place != job.place
                    else f"{job.place} would write {path} twice; give its prompts once each"
                )
            if place in sources:
                raise InputError(
                    f"{job.place} would write over {path}, the source of {sources[place].place}; "
                    "choose another folder"
                )
        written |= {path.resolve(): job for path in job.files}
