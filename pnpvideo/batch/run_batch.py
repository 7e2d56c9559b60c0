"""Run a batch, from the list of its jobs to their results."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.batch.addresses import check_free_at
from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.combine import combine
from pnpvideo.batch.dispatch import Dispatcher
from pnpvideo.batch.job import Job, Record, Skipped, broken_files, cannot_be_made
from pnpvideo.batch.plan import plan
from pnpvideo.batch.read_jobs import read_jobs
from pnpvideo.batch.spread import most_spans
from pnpvideo.batch.start import start_workers
from pnpvideo.batch.table import Table
from pnpvideo.catalogue.ask_model import texts_of, warn_of_unknown, words_for
from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.clips.write import check_output
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import check_free
from pnpvideo.options.batch import BatchOptions
from pnpvideo.options.paths import expanded, is_address
from pnpvideo.options.settings_file import with_paths_from
from pnpvideo.run.opening import Opener, open_model

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All jobs of a batch with their records. manifest: the file that has the same."""

    jobs: Sequence[Job]
    records: Sequence[Record]
    manifest: Path

    @property
    def missing(self) -> list[tuple[Job, Record]]:
        pairs = zip(self.jobs, self.records, strict=True)
        return [(job, record) for job, record in pairs if record.state != "done"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A batch that has been checked. todo: the numbers of the jobs that are not done. skipped: the
    jobs that cannot be made, as a file of theirs is broken.
    """

    jobs: Sequence[Job]
    folder: BatchFolder
    todo: Sequence[int]
    skipped: Sequence[Skipped] = ()

    @property
    def most(self) -> int:
        """The largest number of workers that there is work for."""
        return sum(most_spans(self.jobs[number]) for number in self.todo)


def plan_batch(options: BatchOptions, common: Mapping[str, object], *, overwrite: bool) -> Plan:
    """Read and check all jobs, without changing anything.

    common: settings of all jobs; a job's own settings win. overwrite: replace files that are not of
    this batch. InputError for the first thing that cannot be used; broken files are all logged
    before, or only counted: with --skip-broken if a job is left, and in a dry run.
    """
    folder = _folder(options.output, options.work_dir)
    output = folder.output
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; give a folder for the results")
    entries = read_jobs(expanded(options.jobs), output)
    combined = combine(entries, with_paths_from(Path.cwd(), common), options.combine)
    skipped: list[Skipped] = []
    jobs = plan(combined, folder, name=options.name, overwrite=overwrite, skipped=skipped)
    if skipped and not (options.dry_run or (options.skip_broken and jobs)):
        errors = broken_files(skipped)
        for error in errors if len(errors) > 1 else ():
            _log.error("broken: %s", error)
        raise cannot_be_made(skipped, listed=len(errors) > 1, some_left=bool(jobs))
    todo = [number for number, job in enumerate(jobs) if not folder.is_done(job)]
    for job in (jobs[number] for number in todo):
        _check_free(job, folder, overwrite or folder.record(job).state != "waiting")
    return Plan(jobs=jobs, folder=folder, todo=todo, skipped=skipped)


def warn_of_words(plan: Plan) -> None:
    """Log, once for each model, which words of the jobs to do it does not know."""
    texts: dict[str, list[str]] = {}
    known: dict[str, KnownWords | None] = {}
    for job in (plan.jobs[number] for number in plan.todo):
        if job.model not in known:
            known[job.model] = words_for(job.settings)
        texts.setdefault(job.model, []).extend(texts_of(job.settings))
    for model, some in texts.items():
        warn_of_unknown(dict.fromkeys(some), known[model])


def run_batch(
    plan: Plan, options: BatchOptions, *, quiet: bool = False, opener: Opener = open_model
) -> Batch:
    """Make what is not done. A job that fails is logged, and the rest is made.

    opener: loads the models of jobs, in whichever process works on them; it can be pickled.
    """
    jobs, folder = plan.jobs, plan.folder
    for error in broken_files(plan.skipped):
        _log.warning("left out: %s", error)
    if opener is open_model:  # Others may load other models than the settings name.
        warn_of_words(plan)
    with folder.taken():
        records = [folder.record(job) for job in jobs]
        for number in plan.todo:
            records[number] = Record()
        table = Table(jobs, records, folder, plan.skipped)
        table.write()
        if plan.todo:
            workers = start_workers(folder, options, plan.most, opener)
            try:
                with table.shown(quiet=quiet):
                    Dispatcher(jobs, folder, workers, table).run(plan.todo)
            finally:
                workers.close()
        batch = Batch(jobs=jobs, records=records, manifest=table.write())
        folder.deliver_manifest()
    if not batch.missing:
        folder.delete_work()
    return batch


def _folder(output: str, work_dir: str | None) -> BatchFolder:
    """Return the batch's folder. InputError if --work-dir is missing, or not needed."""
    if is_address(output) == (work_dir is None):
        raise InputError(
            "give --work-dir, a folder that all workers can use, if and only if the results go to "
            "an address"
        )
    place = expanded(work_dir or output).absolute()
    return BatchFolder(place, output if is_address(output) else None)


def _check_free(job: Job, folder: BatchFolder, overwrite: bool) -> None:
    """Raise InputError if a job would replace files that it must not."""
    try:
        if folder.address is not None:
            for text, file in zip(job.outputs.files, job.files, strict=True):
                is_folder = text.endswith("/") or not file.suffix
                check_free_at(folder.address_of(file), folder=is_folder, overwrite=overwrite)
        for path in job.outputs.clips:
            check_output(path, overwrite)
        for text in job.outputs.files[len(job.outputs.clips) :]:
            check_free(Path(text), folder=False, overwrite=overwrite)
    except InputError as error:
        raise InputError(f"{job.place}: {error}") from None
