"""Who does which job when."""

import time
from collections import Counter
from collections.abc import Sequence

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Record
from pnpvideo.batch.table import Table
from pnpvideo.workers import Workers

_LOOK = 0.5  # seconds between two looks at what goes on
_REST = 2.0  # seconds after which a job that another worker has is tried again
_DEATHS = 3
"""After so many workers have died of it, a job has failed."""


class Dispatcher:
    """Gives jobs to workers until all have ended.

    Of jobs with the same inversion the first makes it, and the others wait until it is there. A
    worker goes on with jobs for the model that it has loaded while there are any.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        folder: BatchFolder,
        workers: Workers[Job, Record | None],
        table: Table,
    ) -> None:
        self._jobs, self._folder, self._workers, self._table = jobs, folder, workers, table
        self._busy: dict[int, int] = {}
        self._models: dict[int, str] = {}
        self._deaths: Counter[int] = Counter()
        self._resting: dict[int, float] = {}

    def run(self, todo: Sequence[int]) -> None:
        """todo: the numbers of the jobs that are not done."""
        waiting = list(todo)
        while waiting or self._busy:
            for worker in range(len(self._workers)):
                if waiting and worker not in self._busy and self._workers.ready(worker):
                    self._give(worker, waiting)
            if not self._busy:
                time.sleep(_LOOK)
            for ended in self._workers.wait(_LOOK):
                number = self._busy.pop(ended.worker)
                if ended.died:
                    self._died(number, ended.died, waiting)
                elif ended.result is None:
                    self._resting[number] = time.monotonic() + _REST
                    self._again(number, waiting)
                else:
                    self._table.end(number, ended.result)
                    self._forget(number, waiting)

    def _give(self, worker: int, waiting: list[int]) -> None:
        """The next job for a worker, if there is one that can be begun."""
        # Others wait for an inversion that is being made.
        at_work = [self._jobs[number] for number in self._busy.values()]
        made = {job.inversion for job in at_work if not self._folder.has_inversion(job)} - {None}
        now = time.monotonic()
        able = [
            number
            for number in waiting
            if self._jobs[number].inversion not in made and self._resting.get(number, 0) <= now
        ]
        if not able:
            return
        loaded = self._models.get(worker)
        number = next((one for one in able if self._jobs[one].model == loaded), able[0])
        waiting.remove(number)
        self._busy[worker] = number
        self._models[worker] = self._jobs[number].model
        self._table.begin(number, worker)
        self._workers.submit(worker, self._jobs[number])

    def _died(self, number: int, why: str, waiting: list[int]) -> None:
        self._deaths[number] += 1
        if self._deaths[number] < _DEATHS:
            self._table.tell(f"{self._jobs[number].name}: its worker died, it goes on ({why})")
            self._again(number, waiting)
            return
        failed = Record(
            state="failed",
            error=f"its worker died {_DEATHS} times; {why}",
            finished=time.time(),
        )
        self._folder.keep(self._jobs[number], failed)
        self._table.end(number, failed)

    def _again(self, number: int, waiting: list[int]) -> None:
        """First, as it is the furthest."""
        waiting.insert(0, number)
        self._table.wait(number)

    def _forget(self, number: int, waiting: list[int]) -> None:
        """The inversion, where no other job needs it."""
        mine = self._jobs[number].inversion
        left = [*waiting, *self._busy.values()]
        if all(self._jobs[other].inversion != mine for other in left):
            self._folder.forget_inversion(self._jobs[number])
