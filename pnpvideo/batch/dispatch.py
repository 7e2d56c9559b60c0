"""Who does which job when."""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Record, Span, Task
from pnpvideo.batch.spread import span_counts
from pnpvideo.batch.table import Table
from pnpvideo.batch.workers import Workers

_LOOK = 0.5  # seconds between two looks at what goes on
_REST = 2.0  # seconds after which a job that another worker has is tried again
_DEATHS = 3
"""After so many workers have died of it, a job has failed."""


@dataclass(frozen=True)
class _Piece:
    """A job by its number, or one of its spans, which are made before it."""

    number: int
    span: int | None = None


class Dispatcher:
    """Gives jobs to workers until all have ended.

    Of jobs with the same inversion the first makes it, and the others wait until it is there. A
    worker goes on with jobs for the model that it has loaded while there are any. A long job is cut
    into spans; the job itself comes when all are made, and puts them together.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        folder: BatchFolder,
        workers: Workers[Task, Record | None],
        table: Table,
    ) -> None:
        self._jobs, self._folder, self._workers, self._table = jobs, folder, workers, table
        self._busy: dict[int, _Piece] = {}
        self._models: dict[int, str] = {}
        self._deaths: Counter[_Piece] = Counter()
        self._resting: dict[_Piece, float] = {}
        self._spans: dict[int, int] = {}
        self._made: defaultdict[int, list[Record]] = defaultdict(list)

    def run(self, todo: Sequence[int]) -> None:
        """todo: the numbers of the jobs that are not done."""
        self._spans = span_counts(self._jobs, todo, self._folder, len(self._workers))
        waiting = [piece for number in todo for piece in self._pieces(number)]
        while waiting or self._busy:
            for worker in range(len(self._workers)):
                if waiting and worker not in self._busy and self._workers.ready(worker):
                    self._give(worker, waiting)
            if not self._busy:
                time.sleep(_LOOK)
            for ended in self._workers.wait(_LOOK):
                piece = self._busy.pop(ended.worker)
                if piece.number not in self._spans:
                    continue  # Another piece of its job has failed.
                if ended.died:
                    self._died(piece, ended.died, waiting)
                elif ended.result is None:
                    self._resting[piece] = time.monotonic() + _REST
                    self._again(piece, waiting)
                elif piece.span is not None and ended.result.state == "done":
                    self._made[piece.number].append(ended.result)
                    self._join(piece.number, waiting)
                else:
                    self._end(piece.number, ended.result, waiting)

    def _pieces(self, number: int) -> list[_Piece]:
        count = self._spans[number]
        return [_Piece(number, span if count > 1 else None) for span in range(count)]

    def _task(self, piece: _Piece) -> Task:
        job = self._jobs[piece.number]
        if piece.span is None:
            return job
        return Span(job=job, number=piece.span, count=self._spans[piece.number])

    def _give(self, worker: int, waiting: list[_Piece]) -> None:
        """The next job for a worker, if there is one that can be begun."""
        # Others wait for an inversion that is being made.
        at_work = {piece.number for piece in self._busy.values()}
        makers = {n for n in at_work if not self._folder.has_inversion(self._jobs[n])}
        made = {self._jobs[n].inversion: n for n in makers}
        now = time.monotonic()
        able = [
            piece
            for piece in waiting
            if self._resting.get(piece, 0) <= now
            and made.get(self._jobs[piece.number].inversion or "", piece.number) == piece.number
        ]
        if not able:
            return
        loaded = self._models.get(worker)
        same = (piece for piece in able if self._jobs[piece.number].model == loaded)
        piece = next(same, able[0])
        waiting.remove(piece)
        self._busy[worker] = piece
        self._models[worker] = self._jobs[piece.number].model
        self._table.begin(piece.number, worker)
        self._workers.submit(worker, self._task(piece))

    def _died(self, piece: _Piece, why: str, waiting: list[_Piece]) -> None:
        self._deaths[piece] += 1
        job = self._jobs[piece.number]
        if self._deaths[piece] < _DEATHS:
            self._table.tell(f"{job.name}: its worker died, it goes on ({why})")
            self._again(piece, waiting)
            return
        failed = Record(
            state="failed",
            error=f"its worker died {_DEATHS} times; {why}",
            finished=time.time(),
        )
        self._folder.keep(job, failed)
        self._end(piece.number, failed, waiting)

    def _again(self, piece: _Piece, waiting: list[_Piece]) -> None:
        """First, as it is the furthest."""
        waiting.insert(0, piece)
        self._rest(piece.number)

    def _join(self, number: int, waiting: list[_Piece]) -> None:
        """A span is made; after the last one comes the job."""
        left = [*waiting, *self._busy.values()]
        if all(piece.number != number for piece in left):
            waiting.insert(0, _Piece(number))
            self._rest(number)

    def _rest(self, number: int) -> None:
        """Tell that a job waits, if nobody is at work on it."""
        if all(piece.number != number for piece in self._busy.values()):
            self._table.wait(number)

    def _end(self, number: int, record: Record, waiting: list[_Piece]) -> None:
        """A job is done, or one of its pieces has failed, with which the others end too."""
        del self._spans[number]
        waiting[:] = [piece for piece in waiting if piece.number != number]
        if spans := self._made[number]:
            record = _of_all([*spans, record])
            self._folder.keep(self._jobs[number], record)
        self._table.end(number, record)
        # The inversion, where no other job needs it.
        mine = self._jobs[number].inversion
        left = {piece.number for piece in (*waiting, *self._busy.values())} - {number}
        if all(self._jobs[other].inversion != mine for other in left):
            self._folder.forget_inversion(self._jobs[number])


def _of_all(records: Sequence[Record]) -> Record:
    """The last one, with the time and the warnings of them all."""
    notices = dict.fromkeys(notice for record in records for notice in record.notices)
    return replace(
        records[-1], seconds=sum(record.seconds for record in records), notices=tuple(notices)
    )
