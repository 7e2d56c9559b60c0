"""`pnpvideo translate`: one run, from options to the paths of its results."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from tqdm import tqdm

from pnpvideo.catalogue.find_model import check_model
from pnpvideo.commands.command import Command
from pnpvideo.commands.json_lines import JsonBar, errors_as_json, report, warnings_as_json
from pnpvideo.commands.notices import WriteOptions
from pnpvideo.commands.printing import say
from pnpvideo.importing import without_collection
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.paths import expanded
from pnpvideo.options.settings import GROUPS, Settings
from pnpvideo.options.settings_file import read_settings
from pnpvideo.storage.job_files import finished_pieces

_INTRODUCTION = """\
Translate a video, a frame sequence or an image to what a text prompt says, keeping its layout and
motion. No training, no upload: the source is inverted, and its features guide the new picture."""

_EXAMPLES = """\
examples:
  pnpvideo translate drawing.mp4 --prompt "a 3D render of a red balloon on grass" -o balloon.mp4
  pnpvideo translate frames/ --prompt "a photo of the moon" --model sd15 -o result/
  pnpvideo translate fox.jpg --prompt "a golden fox" --prompt "a cartoon of a fox" -o fox.png
  pnpvideo translate --config balloon.mp4.yaml --seed 2 --overwrite

Exit codes: 0 done, 1 the work failed, 2 the input cannot be used, 130 stopped by Ctrl-C
(143 by a scheduler, 129 by a closed terminal)."""

_log = logging.getLogger(__name__)


class CallOptions(WriteOptions):
    """Options of one call of `translate`."""

    config: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        description="YAML file of settings; the command line overrides it (--no-compare and the "
        "like switch off). Every run writes such a file, OUT.yaml, that repeats it",
        json_schema_extra={"metavar": "FILE", "format": "path"},
    )
    preview: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        description="translate only the first frame, to OUT-preview.png, and ask whether to go on "
        "with the whole clip; stop there if nobody can be asked",
        json_schema_extra={"brief": "translate only the first frame, and ask whether to go on"},
    )
    # pydantic has a json of its own.
    json_lines: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        alias="json",
        description="for scripts: print progress, results and errors on stdout, as lines of JSON",
    )


def _errors(call: CallOptions) -> AbstractContextManager[None]:
    return errors_as_json(wanted=call.json_lines)


def _read(given: dict[str, object], call: CallOptions) -> Settings:
    kept = read_settings(expanded(call.config)) if call.config else {}
    settings = Settings.of(_merge(kept, given))
    check_model(settings.model)
    return settings


def _work(settings: Settings, call: CallOptions) -> None:
    with warnings_as_json(wanted=call.json_lines):
        _translate(settings, call)


def _translate(settings: Settings, call: CallOptions) -> None:
    with without_collection(freeze=True):
        from pnpvideo.catalogue.ask_model import warned_before
        from pnpvideo.clips.clip import frame_count_text
        from pnpvideo.commands.job_hint import JobHint
        from pnpvideo.run.first_frame import is_preview, preview_settings, source_frames
        from pnpvideo.run.opening import load_pipeline
        from pnpvideo.run.plan_text import size_text
        from pnpvideo.run.run import run

    files = _Files()
    how: dict[str, Any] = {"quiet": call.quiet}
    if call.json_lines:
        how |= {"bars": JsonBar}
    pipeline = None
    warned: AbstractContextManager[None] = nullcontext()
    if call.preview and (first := preview_settings(settings, overwrite=call.overwrite)):
        pipeline, warned = load_pipeline(settings), warned_before()
        with _says_what_is_kept(settings, call, files):
            shown = run(
                first,
                pipeline,
                overwrite=call.overwrite or is_preview(first),
                on_written=files.previews.append,
                **how,
            )
        frames = source_frames(settings)
        took = tqdm.format_interval(shown.seconds * frames)
        _log.info("at this pace all %s take about %s", frame_count_text(frames), took)
        if not _goes_on(call, shown.outputs):
            return
    if settings.job is None and not call.json_lines:
        hint = JobHint(_job_name(settings))
        how |= {"bars": hint.bars(), "on_cost": hint.expect}
    with warned, _says_what_is_kept(settings, call, files):
        result = run(
            settings, pipeline, overwrite=call.overwrite, on_written=files.results.append, **how
        )
    _log.info(
        "%s of %s in %s; the settings are in %s",
        frame_count_text(result.frames),
        size_text(result.size, result.source_size),
        *(tqdm.format_interval(result.seconds), result.settings),
    )
    if call.json_lines:
        report("done", **asdict(result))
        return
    if result.inversion is not None:
        say(
            f"inversion: sampling reproduces the source at {result.inversion.reconstruction:.1f} "
            f"dB (the autoencoder alone reaches {result.inversion.autoencoder:.1f} dB)"
        )
    for path in (*result.outputs, *result.compares):
        say(path)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files that a call has written: of a preview, and of the run itself."""

    previews: list[Path] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)


@contextmanager
def _says_what_is_kept(settings: Settings, call: CallOptions, files: _Files) -> Iterator[None]:
    """Let a KeyboardInterrupt say what is kept of a run."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped; {_kept(settings, call, files)}",)
        raise


def _when_stopped(settings: Settings, call: CallOptions) -> str:
    return _kept(settings, call, _Files())


def _kept(settings: Settings, call: CallOptions, files: _Files) -> str:
    written = [*files.previews, *files.results]
    # What a run has written is in the way of the next one.
    replaces = bool(files.results) and not call.overwrite
    if settings.job is not None and not finished_pieces(Path(settings.job)):
        text = f"nothing{' else' if written else ''} is finished yet: the same command starts anew"
    elif settings.job is not None:
        again = "results are written" if files.results else "frames or the step under way are made"
        text = (
            f"run the same command{' with --overwrite' if replaces else ''} to go on; only the "
            f"{again} again"
        )
    else:
        text = (
            f"nothing{' else' if written else ''} is kept: add `--job {_job_name(settings)}`"
            f"{' and --overwrite' if replaces else ''} to go on next time"
        )
    if not written:
        return text
    return f"{', '.join(map(str, written))} {'is' if len(written) == 1 else 'are'} written; {text}"


def _job_name(settings: Settings) -> str:
    """Return a name for the job folder of a run."""
    named = Path(settings.output or settings.source or "").stem
    stem = re.sub(r"\W+", "-", named).strip("-") or "my"
    return f"{stem}-job"


def _goes_on(call: CallOptions, previews: Sequence[Path]) -> bool:
    """Print where the preview is, and ask on stderr whether to go on with the whole clip.

    stdout is for scripts, which get the path and cannot be asked.
    """
    if call.json_lines:
        report("preview", outputs=previews)
        return False
    for path in previews:
        say(path)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _log.warning(
            "this is the preview; for the whole clip, run the same command without --preview"
        )
        return False
    while True:
        print("pnpvideo: go on with the whole clip? [y/n] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if answer.strip().lower() in ("y", "yes"):
            return True
        if answer.strip().lower() in ("n", "no") or not answer:
            return False


def _merge(config: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a file and of the command line, which wins."""
    replaced: set[str] = set()
    if "preset" in given:  # The file's steps are those of its own preset.
        replaced |= {"steps", "inversion_steps"}
    if (
        "source" in given or "guidance_prompt" in given
    ):  # The file may have the other kind of source.
        replaced |= {"source", "guidance_prompt"}
    return {k: v for k, v in config.items() if k not in replaced} | dict(given)


COMMAND = Command(
    name="translate",
    summary="translate a video, a frame sequence or an image",
    usage="SOURCE --prompt TEXT [OPTION ...]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=CallOptions,
    has_short_help=True,
    others=("--mask", "--method", "--strength"),
    errors=_errors,
    read=_read,
    sources=lambda settings: (settings.source,),
    work=_work,
    when_stopped=_when_stopped,
)
