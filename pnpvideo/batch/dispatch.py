"""Give jobs to workers: which worker gets which job, and when."""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Record, Span, Task
from pnpvideo.batch.queue import Piece, Queue
from pnpvideo.batch.spread import span_counts
from pnpvideo.batch.table import Table
from pnpvideo.batch.workers import Workers

_LOOK = 0.5  # seconds between two looks at the workers
_REST = 2.0  # seconds until a job that another process has is tried again
_DEATHS = 3
"""A job has failed when so many workers have died while they had it."""


class Dispatcher:
    """The distribution of jobs to workers, until all jobs have ended.

    Of the jobs with the same inversion, the first one makes it and the others wait for it. A worker
    prefers jobs for the model that it has loaded. A long job is cut into spans; when all of them
    are made, the job itself joins them.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        folder: BatchFolder,
        workers: Workers[Task, Record | None],
        table: Table,
    ) -> None:
        self._jobs, self._folder, self._workers, self._table = jobs, folder, workers, table
        self._busy: dict[int, Piece] = {}
        self._models: dict[int, str] = {}
        self._deaths: Counter[Piece] = Counter()
        self._resting: dict[Piece, float] = {}
        self._spans: dict[int, int] = {}
        self._made: defaultdict[int, list[Record]] = defaultdict(list)
        self._waiting = Queue(lambda piece: jobs[piece.number].model)
        self._unfinished: Counter[str | None] = Counter()
        """By inversion: how many jobs have not ended."""

    def run(self, todo: Sequence[int]) -> None:
        """Run the jobs with these numbers."""
        self._spans = span_counts(self._jobs, todo, self._folder, len(self._workers))
        self._unfinished = Counter(self._jobs[number].inversion for number in todo)
        self._waiting.add(piece for number in todo for piece in self._pieces(number))
        while self._waiting or self._busy:
            for worker in range(len(self._workers)):
                if self._waiting and worker not in self._busy and self._workers.ready(worker):
                    self._give(worker)
            if not self._busy:
                time.sleep(_LOOK)
            for ended in self._workers.wait(_LOOK):
                piece = self._busy.pop(ended.worker)
                if piece.number not in self._spans:
                    continue  # Another span of the same job has failed.
                if ended.died:
                    self._died(piece, ended.died)
                elif ended.result is None:
                    self._resting[piece] = time.monotonic() + _REST
                    self._again(piece)
                elif piece.span is not None and ended.result.state == "done":
                    self._made[piece.number].append(ended.result)
                    self._join(piece.number)
                else:
                    self._end(piece.number, ended.result)
            self._table.write_if_due()

    def _pieces(self, number: int) -> list[Piece]:
        count = self._spans[number]
        return [Piece(number, span if count > 1 else None) for span in range(count)]

    def _task(self, piece: Piece) -> Task:
        job = self._jobs[piece.number]
        if piece.span is None:
            return job
        return Span(job=job, number=piece.span, count=self._spans[piece.number])

    def _give(self, worker: int) -> None:
        """Give a worker its next job, if there is one that can begin."""
        # A job waits for an inversion that another job is making.
        running = {piece.number for piece in self._busy.values()}
        makers = {
            self._jobs[number].inversion: number
            for number in running
            if self._jobs[number].inversion is not None
            and not self._folder.has_inversion(self._jobs[number])
        }
        now = time.monotonic()

        def is_ready(piece: Piece) -> bool:
            maker = makers.get(self._jobs[piece.number].inversion, piece.number)
            return self._resting.get(piece, 0) <= now and maker == piece.number

        piece = self._waiting.take(self._models.get(worker), is_ready)
        if piece is None:
            return
        self._busy[worker] = piece
        self._models[worker] = self._jobs[piece.number].model
        self._table.begin(piece.number, worker)
        self._workers.submit(worker, self._task(piece))

    def _died(self, piece: Piece, why: str) -> None:
        self._deaths[piece] += 1
        job = self._jobs[piece.number]
        if self._deaths[piece] < _DEATHS:
            self._table.warn(f"{job.shown}: its worker died; it is tried again ({why})")
            self._again(piece)
            return
        failed = Record(
            state="failed",
            error=f"its worker died {_DEATHS} times; {why}",
            finished=time.time(),
        )
        self._folder.keep(job, failed)
        self._end(piece.number, failed)

    def _again(self, piece: Piece) -> None:
        """Put a job or span first, as it has the most progress."""
        self._waiting.put_first(piece)
        self._rest(piece.number)

    def _join(self, number: int) -> None:
        """Put a job first in the queue if its last span has ended."""
        busy = self._busy.values()
        if not any(piece in self._waiting or piece in busy for piece in self._pieces(number)):
            self._waiting.put_first(Piece(number))
            self._rest(number)

    def _rest(self, number: int) -> None:
        """Show a job as waiting, unless a worker has a span of it."""
        if all(piece.number != number for piece in self._busy.values()):
            self._table.set_waiting(number)

    def _end(self, number: int, record: Record) -> None:
        """End a job that is done, or that failed, with its other spans."""
        self._waiting.remove([*self._pieces(number), Piece(number)])
        del self._spans[number]
        if spans := self._made[number]:
            record = _of_all([*spans, record])
            self._folder.keep(self._jobs[number], record)
        self._table.end(number, record)
        inversion = self._jobs[number].inversion
        self._unfinished[inversion] -= 1
        if not self._unfinished[inversion]:
            self._folder.delete_inversion(self._jobs[number])


def _of_all(records: Sequence[Record]) -> Record:
    """Return the last record, with the time and the warnings of all."""
    notices = dict.fromkeys(notice for record in records for notice in record.notices)
    return replace(
        records[-1], seconds=sum(record.seconds for record in records), notices=tuple(notices)
    )
