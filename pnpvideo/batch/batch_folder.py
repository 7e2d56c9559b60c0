"""The folder of a batch: its results, and which jobs are done.

batch.json              all jobs with their results, errors and times, for people and programs
.batch/records/         the record of each job, written by the worker that has it
.batch/sources/         copies of sources at addresses
.batch/jobs/            job folders of unfinished runs, and of spans of runs
.batch/inversions/      inversions that several jobs share, while they are needed
.batch/claims/          locks of the workers
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pnpvideo.batch.addresses import put, stamp_at
from pnpvideo.batch.job import Job, Record, Skipped, Span, stamp_of
from pnpvideo.errors import InputError
from pnpvideo.files.own_names import make_own_folder, remove
from pnpvideo.files.read_text import parse_json, read_text
from pnpvideo.files.shared_folder import SharedFolder
from pnpvideo.storage.inversions import is_lent, lend_inversion, take_inversion
from pnpvideo.storage.job_files import JOURNAL
from pnpvideo.storage.job_folder import how_far
from pnpvideo.storage.join_spans import join_spans

MANIFEST = "batch.json"


class BatchFolder(SharedFolder):
    """The folder of a batch, which any process may open: the object holds only its paths."""

    def __init__(self, output: Path, address: str | None = None) -> None:
        """output: where the results are made. address: the folder that they are delivered to."""
        super().__init__(output / ".batch")
        self.output, self.address = output, address

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Keep other batches from starting here. InputError if one is running."""
        make_own_folder(self.path)
        self.make("records", "jobs", "inversions")
        with self.claim("batch") as claimed:
            if not claimed:
                raise InputError(f"another batch is running in {self.output}; wait for it")
            yield

    def record(self, job: Job) -> Record:
        """Return what is known of a job."""
        try:
            path = self._record(job)
            known: Any = parse_json(read_text(path), path)
            lists = {name: tuple(known[name]) for name in ("notices", "stamps")}
            return Record(**known | lists)
        except (InputError, TypeError, KeyError):  # There is none yet, or of another version.
            return Record()

    def named_before(self) -> frozenset[tuple[str, str | None, tuple[str, ...]]]:
        """Return the settings file, source and prompts of each job in the manifest, if any."""
        path = self.output / MANIFEST
        try:
            known: Any = parse_json(read_text(path), path)
            rows = [row for row in known["jobs"] if "settings" in row]
            return frozenset((row["settings"], row["source"], tuple(row["prompt"])) for row in rows)
        except (InputError, TypeError, KeyError):  # There is none yet, or it is damaged.
            return frozenset()

    def is_free(self, job: Job) -> bool:
        """Return whether no file of a job exists at the place where it is delivered."""
        return not any(self.stamps_of(job))

    def keep(self, job: Job, record: Record) -> None:
        """Save a record. RunError if the disk is full or fails."""
        self.write_json(self._record(job), asdict(record))

    def is_written(self, job: Job) -> bool:
        """Return whether a run that was interrupted had written all of its results."""
        if self.record(job).state != "running":
            return False
        try:
            begun = self._record(job).stat().st_mtime_ns
            return job.outputs.record.stat().st_mtime_ns >= begun
        except OSError:
            return False

    def is_done(self, job: Job) -> bool:
        """Return whether the job is done and its files are unchanged since they were read back."""
        record = self.record(job)
        if record.state != "done" or not all(record.stamps):
            return False
        return record.stamps == self.stamps_of(job)

    def stamps_of(self, job: Job) -> tuple[str, ...]:
        """Return the stamps of a job's files at the place where they are delivered."""
        if self.address is None:
            return tuple(stamp_of(path) for path in job.files)
        return tuple(stamp_at(self.address_of(path)) for path in job.files)

    def address_of(self, path: Path) -> str:
        """Return where a file is delivered. InputError if it is outside the results' folder."""
        if not path.is_relative_to(self.output):
            raise InputError(f"{path} is not in the folder of the results; give a name in it")
        return f"{str(self.address).rstrip('/')}/{path.relative_to(self.output).as_posix()}"

    def deliver(self, job: Job, check: Callable[[Path], None]) -> None:
        """Copy a job's files to their address, if there is one.

        check: called with a copy of each result or comparison, read back. RunError if one cannot
        be written.
        """
        if self.address is not None:
            for path in job.files:
                checked = check if path in job.clips else _unchecked
                put(path, self.address_of(path), checked)

    def job_folder(self, job: Job) -> Path:
        return self.path / "jobs" / job.id

    def is_begun(self, job: Job) -> bool:
        """Return whether a run of the whole job has begun, which can be continued."""
        return (self.job_folder(job) / JOURNAL).exists()

    def span_folder(self, span: Span) -> Path:
        return self.path / "jobs" / f"{span.job.id}-{span.number}-of-{span.count}"

    def begun_spans(self, job: Job) -> list[Path]:
        """Return the job folders of spans that this or an earlier command has begun."""
        return sorted((self.path / "jobs").glob(f"{job.id}-*-of-*"))

    def how_far(self, job: Job) -> tuple[int, int]:
        """Return how many pieces of a job are inverted, and how many steps are sampled."""
        far = [how_far(folder) for folder in self.begun_spans(job) or [self.job_folder(job)]]
        return sum(pieces for pieces, _ in far), max(steps for _, steps in far)

    def begun_by_others(self, jobs: Sequence[Job]) -> int:
        """Return how many jobs are begun that are not among these."""
        folders = {path.name.partition("-")[0] for path in (self.path / "jobs").glob("*")}
        return len(folders - {job.id for job in jobs})

    def take_spans(self, job: Job) -> None:
        """Begin a job's folder with its spans, if it was cut. RunError if a span is missing."""
        spans = self.begun_spans(job)
        if spans:
            remove(self.job_folder(job))
            join_spans(spans, self.job_folder(job))
            self._delete_spans(job)

    def has_inversion(self, job: Job) -> bool:
        return job.inversion is not None and is_lent(self._inversion(job))

    def take_inversion(self, job: Job, folder: Path) -> None:
        """Begin a job folder with the inversion of its source, if there is one."""
        if job.inversion is not None:
            take_inversion(self._inversion(job), folder)

    def lend_inversion(self, job: Job) -> None:
        if job.inversion is not None:
            lend_inversion(self.job_folder(job), self._inversion(job))

    def delete_run_files(self, job: Job) -> None:
        """Delete what only this job's run needed."""
        if self.address is not None:
            for path in job.files:
                remove(path)
        remove(self.job_folder(job))
        self._delete_spans(job)

    def delete_inversion(self, job: Job) -> None:
        remove(self._inversion(job))

    def delete_work(self) -> None:
        """Delete what is only needed while jobs are not done."""
        for name in ("jobs", "inversions", "claims"):
            remove(self.path / name)

    def write_manifest(
        self, jobs: Sequence[Job], records: Sequence[Record], skipped: Sequence[Skipped] = ()
    ) -> Path:
        path = self.output / MANIFEST
        rows = [_row(*pair) for pair in zip(jobs, records, strict=True)]
        states = [record.state for record in records]
        counts = {state: states.count(state) for state in ("done", "failed", "running", "waiting")}
        rows += [{"state": "skipped"} | asdict(one) for one in skipped]
        self.write_json(path, {"jobs": rows} | counts | {"skipped": len(skipped)})
        return path

    def deliver_manifest(self) -> None:
        if self.address is not None:
            path = self.output / MANIFEST
            put(path, self.address_of(path), _unchecked)

    def _delete_spans(self, job: Job) -> None:
        for folder in self.begun_spans(job):
            remove(folder)

    def _record(self, job: Job) -> Path:
        return self.path / "records" / f"{job.id}.json"

    def _inversion(self, job: Job) -> Path:
        return self.path / "inversions" / str(job.inversion)


def _unchecked(_: Path) -> None:
    """Accept a copy as it is."""


def _row(job: Job, record: Record) -> dict[str, object]:
    """Return the manifest's entry of a job."""
    known = asdict(record)
    del known["stamps"]
    # In UTC, as machines of a cluster may be in different time zones.
    at = datetime.fromtimestamp(record.finished, UTC) if record.finished else None
    known["finished"] = at and at.isoformat(timespec="seconds")
    return {
        "name": job.name,
        "place": job.place,
        "source": job.source,
        "prompt": list(job.settings.prompt),
        "outputs": list(job.outputs.results),
        "compares": list(job.outputs.compares),
        "mask": job.outputs.mask,
        "settings": str(job.outputs.record),
        "frames": job.frames,
        **known,
    }
