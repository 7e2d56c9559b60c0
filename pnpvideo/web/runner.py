"""Run the jobs of a queue in a thread, one after the other."""

import errno
import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pnpvideo.catalogue.ask_model import warned_before
from pnpvideo.clips.clip import frame_count_text
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError, RunError
from pnpvideo.files.read_text import parse_yaml, read_text
from pnpvideo.options.settings import ReadSettings, Settings
from pnpvideo.run.outputs import default_output
from pnpvideo.run.plan_text import size_text
from pnpvideo.run.run import Translation, run
from pnpvideo.stages.callbacks import Callbacks, bars_of
from pnpvideo.stages.cost import cost_of
from pnpvideo.stages.source import Source
from pnpvideo.web.jobs import MASK, JobKind, JobStore, WebJob
from pnpvideo.web.limits import Limits
from pnpvideo.web.models import Models
from pnpvideo.web.notices import notices_of_this_thread
from pnpvideo.web.pace import Paces
from pnpvideo.web.thresholds import Cell, cells_of, make_sheet, sheet_options
from pnpvideo.web.view import (
    framed,
    save_picture,
    write_mask_view,
    write_thumbnail,
    write_views,
)
from pnpvideo.web.watch import RunProgress, StoppedError, TimeUpError, Watch

_log = logging.getLogger(__name__)

PREVIEW = "preview.jpg"
GENERATED_SOURCE = "generated-source.png"
_WORK = "work"


class Runner:
    """The thread that runs the jobs of a store, in the order in which they came."""

    def __init__(
        self,
        store: JobStore,
        models: Models,
        limits: Limits,
        *,
        seconds: float | None = None,
        say: Callable[[str], None] = _log.debug,
        paces: Paces | None = None,
    ) -> None:
        """Start the thread, with the jobs that an earlier server did not finish.

        limits: within which the jobs read their files. seconds: after which a run is stopped.
        say: is called when a job begins and ends. paces: learns from every run, and is measured
        before the first one.
        """
        self._store, self._models, self._limits = store, models, limits
        self._seconds, self._say, self._paces = seconds, say, paces
        self._changed = threading.Condition()
        self._waiting: deque[WebJob] = deque(store.unfinished())
        self._current: tuple[WebJob, Watch] | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="runner", daemon=True)
        self._thread.start()

    def submit(self, job: WebJob) -> None:
        """Put a job at the end of the queue."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def place(self, name: str) -> int | None:
        """Return how many runs come before a waiting one; None if it is not waiting."""
        with self._changed:
            names = [job.name for job in self._waiting]
            if name not in names:
                return None
            return names.index(name) + (self._current is not None)

    def progress(self, name: str) -> RunProgress | None:
        """Return how far a job is; None if it is not the one that is running."""
        current = self._current
        if current is None or current[0].name != name:
            return None
        return current[1].progress

    @property
    def is_idle(self) -> bool:
        with self._changed:
            return self._current is None and not self._waiting

    def stop(self, name: str, by: str = "") -> None:
        """Take a job out of the queue, or stop it at the next layer of the network.

        by: who stops it, for the visitor: " by ...".
        """
        with self._changed:
            for job in [job for job in self._waiting if job.name == name]:
                self._waiting.remove(job)
                self._store.update(job, state="stopped", message=f"stopped{by} before it began")
            if self._current is not None and self._current[0].name == name:
                self._current[1].stop(f"stopped{by}")

    def close(self) -> None:
        """Stop the job that is running; a server that starts later continues it."""
        with self._changed:
            self._closing = True
            if self._current is not None:
                self._current[1].stop()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        if self._paces is not None and not self._waiting:
            name = self._models.names[0]
            try:
                self._paces.measure(name, self._models.load(name))
            except Exception:  # It is an estimate; visitors' runs say what is wrong.
                _log.exception("the pace of %s is not measured", name)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                job = self._waiting.popleft()
                watch = Watch(job.folder / PREVIEW, self._seconds)
                self._current = (job, watch)
            try:
                self._do(job, watch)
            except BaseException:  # Whatever happens to a job, the next ones have their turn.
                _log.exception("job %s", job.name)
            finally:
                with self._changed:
                    self._current = None

    def _do(self, job: WebJob, watch: Watch) -> None:
        """Run one job and save its outcome."""
        job = self._store.update(job, state="running")
        self._say(f"job {job.name} begins")
        outcome = self._outcome(job, watch)
        if outcome is None:
            self._store.update(job, state="waiting")
            return
        job = self._store.update(job, **outcome)
        self._say(f"job {job.name} is over: {job.state}, {job.message}")
        shutil.rmtree(job.folder / _WORK, ignore_errors=True)

    def _outcome(self, job: WebJob, watch: Watch) -> dict[str, object] | None:
        """Run a job; return what changes of it. None if the server ends before the job does."""
        work = {"translate": _translate, "thresholds": _sheet, "mask": _mask}
        try:
            # The page itself says which words the model does not know.
            with notices_of_this_thread() as notices, warned_before():
                changes = work[job.kind](job, self._models, self._limits, watch)
            self._learn(job, changes)
            shown = (without_folder(notice, job.folder) for notice in notices)
            return {"state": "done", "notices": tuple(shown), **changes}
        except TimeUpError:
            message = (
                f"it took more than {self._seconds:g} seconds, the limit here; give fewer "
                "frames or steps, or a smaller size"
            )
        except StoppedError as error:
            return None if self._closing else {"state": "stopped", "message": str(error)}
        except (InputError, RunError) as error:
            message = without_folder(error, job.folder)
        except MemoryError:
            message = "the server has too little memory for it; give fewer frames or a smaller size"
        except OSError as error:
            _log.warning("job %s: %s", job.name, error)
            message = f"the server cannot keep its files: {disk_error(error)}"
        except BaseException:
            _log.exception("job %s", job.name)
            message = "an unexpected error; the cause is in the log of this server"
        return {"state": "failed", "message": message}

    def _learn(self, job: WebJob, changes: dict[str, object]) -> None:
        """Learn the pace of a model from a run that is done."""
        done = changes.pop("done", None)
        if self._paces is not None and isinstance(done, Translation):
            settings = job_settings(job, self._models, self._limits)
            self._paces.learn(
                job.model,
                job.values,
                settings.resolve(self._models.options[job.model]),
                frames=done.frames,
                results=len(done.outputs),
                seconds=done.seconds,
            )


def job_settings(job: WebJob, models: Models, limits: Limits) -> Settings:
    """Return the complete settings of a job's run."""
    own = job.values | models.settings(job.model)
    output = _output(job, settings_of(job.kind, own, limits))
    return settings_of(job.kind, own | {"output": output, "job": str(job.folder / _WORK)}, limits)


def job_cells(job: WebJob, models: Models, limits: Limits) -> tuple[tuple[Cell, ...], Cell]:
    """Return the thresholds of all cells of a job's sheet, and those of its own settings."""
    settings = settings_of(job.kind, job.values, limits)
    options = sheet_options(settings, models.options[job.model])
    return cells_of(options), (options.tau_f, options.tau_a)


def settings_of(kind: JobKind, values: Mapping[str, object], limits: Limits) -> Settings:
    """Return the settings of a run, which reads its files within the limits of the server.

    To show how a mask moves, no prompt is needed.
    """
    shown = {"prompt": values["prompt"] or ["-"]} if kind == "mask" else {}
    return Settings.of({**values, **shown, **limits.reading})


def without_folder(said: object, folder: Path) -> str:
    """Return the text of an error or a notice without the names of the server's folders."""
    text = str(said)
    for place in (folder / "source", folder):
        text = text.replace(f"{place}/", "").replace(str(place), "the source")
    return text


def disk_error(error: OSError) -> str:
    """Return why a disk refuses, without names of files."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "its disk is full; try again later"
    return error.strerror or type(error).__name__


def _output(job: WebJob, settings: Settings) -> str:
    """Return the output that the command line would choose; frames always become a video."""
    if settings.source is None:
        return str(job.folder / default_output(settings, None))
    clip = read_clip(settings.source, **settings.part(ReadSettings))
    try:
        name = default_output(settings, clip)
    finally:
        clip.close()
    return str(job.folder / (name if Path(name).suffix else f"{name}.mp4"))


def _translate(job: WebJob, models: Models, limits: Limits, watch: Watch) -> dict[str, object]:
    settings = job_settings(job, models, limits)
    model = models.load(job.model)
    options = settings.resolve(model.defaults)
    made = settings.source is None
    cost = cost_of(options, len(settings.prompt), generated=made)
    watch.expect(model, [(cost.source_stage, cost.source), ("translating", cost.sampling)])

    def keep_generated(source: Source) -> None:
        if made:
            save_picture(next(source.frames(1))[0], job.folder / GENERATED_SOURCE)

    with watch.on():
        done = run(
            settings,
            model,
            overwrite=True,
            quiet=True,
            after_inversion=keep_generated,
            on_prediction=watch.on_prediction,
            bars=watch.bars(),
        )
        watch.check()
        generated = job.folder / GENERATED_SOURCE
        write_views(job.folder, list(done.outputs), settings, generated, watch.check)
    _strip_server(done.settings, job, models.controlnet, limits)
    found = () if done.mask is None else (done.mask,)
    others = (*found, *job.files(MASK), *job.files(GENERATED_SOURCE))
    names = tuple(path.name for path in (*done.outputs, *done.compares, done.settings, *others))
    size = size_text(done.size, done.source_size, hint="")
    message = f"{frame_count_text(done.frames)} of {size} in {done.seconds:.0f} s"
    return {"results": names, "message": message, "done": done}


def _sheet(job: WebJob, models: Models, limits: Limits, watch: Watch) -> dict[str, object]:
    settings = job_settings(job, models, limits)
    model = models.load(job.model)
    options = sheet_options(settings, model.defaults)
    cost = cost_of(options, 1, generated=settings.source is None)
    cells = cells_of(options)
    bars = [("translating", cost.sampling)] * len(cells)
    watch.expect(model, [(cost.source_stage, cost.source), *bars])
    callbacks = Callbacks(bars=bars_of(watch.bars(), quiet=True))
    names = []
    with watch.on():
        for number, frame in make_sheet(model, settings, callbacks):
            names.append(f"cell-{number:02d}.png")
            is_present = cells[number] == (options.tau_f, options.tau_a)
            save_picture(framed(frame) if is_present else frame, job.folder / names[-1])
            if number == 0:
                write_thumbnail(job.folder, frame)
    return {
        "results": tuple(names),
        "message": "the one in a frame has your values; click one to use its values, and translate",
    }


def _mask(job: WebJob, models: Models, limits: Limits, watch: Watch) -> dict[str, object]:
    write_mask_view(job.folder, job_settings(job, models, limits), watch.check)
    return {"message": "red is what will be edited; on the right it is white"}


def _strip_server(record: Path, job: WebJob, controlnet: str | None, limits: Limits) -> None:
    """Remove what is this server's from a settings file, which is for another machine: its limits
    and its folders.
    """
    values: Any = parse_yaml(read_text(record), record)
    values = {k: v for k, v in values.items() if k not in ("job", *limits.reading)}
    places = ("source", "output", "mask")
    values |= {name: Path(values[name]).name for name in places if name in values}
    values["model"] = job.model
    if "control" in values:
        values["controlnet"] = controlnet
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    record.write_text(text, encoding="utf-8")
