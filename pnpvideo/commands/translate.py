"""`pnpvideo translate`: options to settings, and what a run made."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field
from tqdm import tqdm

from pnpvideo.commands.calls import WriteOptions, read_call, told
from pnpvideo.commands.json_lines import JsonBar, tell, told_errors
from pnpvideo.options.arguments import Parser
from pnpvideo.options.settings import GROUPS, Settings
from pnpvideo.options.settings_file import read_settings

INTRODUCTION = """\
Translate a video, a frame sequence or an image to what a text prompt says, keeping its layout and
motion. No training, no upload: the source is inverted and its features guide the new picture."""

_EXAMPLES = """\
examples:
  pnpvideo translate drawing.mp4 --prompt "a photo of a red ball on grass" -o real.mp4
  pnpvideo translate frames/ --prompt "a photo of a moon" -o result/ --model ./stable-diffusion
  pnpvideo translate cat.jpg --prompt "an oil painting of a cat" --prompt "a stone cat" -o cat.png
  pnpvideo translate --guidance-prompt "a photo of a horse" --prompt "a bronze horse" -o horse.png
  pnpvideo translate --config real.mp4.yaml --seed 2 --overwrite

Exit codes: 0 done, 1 the work failed, 2 what was given cannot be used, 130 stopped by
Ctrl-C (143 by a scheduler, 129 by a closed terminal)."""

_log = logging.getLogger(__name__)


class CallOptions(WriteOptions):
    """With a file of settings to start from."""

    config: str | None = Field(
        default=None,
        description="read settings from a YAML file; the command line wins (--no-compare and the "
        "like switch off). Every run writes such a file, OUT.yaml, that repeats it",
        json_schema_extra={"metavar": "FILE"},
    )
    preview: bool = Field(
        default=False,
        description="translate the first frame alone, to OUT-preview.png, and ask whether to go on "
        "with the whole; stop there where nobody can be asked",
    )
    # pydantic has a json of its own.
    json_lines: bool = Field(
        default=False,
        alias="json",
        description="for scripts: tell on stdout, in lines of JSON, how far the run is and what it "
        "has written or why it failed",
    )


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    usage = "SOURCE --prompt TEXT [OPTION ...]"
    parser = Parser("pnpvideo translate", usage, INTRODUCTION, _EXAMPLES)
    call, given = read_call(parser, GROUPS, CallOptions, arguments)
    with told_errors(as_json=call.json_lines):
        kept = read_settings(Path(call.config)) if call.config else {}
        settings = Settings.of(_merge(kept, given))
        with told(call, arguments):
            from pnpvideo.clips.clip import frame_count_text
            from pnpvideo.run.first_frame import is_preview, preview_settings
            from pnpvideo.run.opening import load_pipeline
            from pnpvideo.run.run import run

            bars = JsonBar if call.json_lines else None
            how: dict[str, Any] = {"quiet": call.quiet, "bars": bars}
            pipeline = None
            if call.preview and (first := preview_settings(settings, overwrite=call.overwrite)):
                pipeline = load_pipeline(settings)
                shown = run(first, pipeline, overwrite=call.overwrite or is_preview(first), **how)
                if not _goes_on(call, shown.outputs):
                    return
            result = run(settings, pipeline, overwrite=call.overwrite, **how)
            _log.info(
                "%s of %d x %d in %s; the settings are in %s",
                frame_count_text(result.frames),
                *(*result.size, tqdm.format_interval(result.seconds), result.settings),
            )
    if call.json_lines:
        tell("done", **asdict(result))
        return
    if result.inversion is not None:
        print(
            f"inversion: the source comes back at {result.inversion.reconstruction:.1f} dB "
            f"(the autoencoder alone reaches {result.inversion.autoencoder:.1f} dB)"
        )
    for path in (*result.outputs, *result.compares):
        print(path)


def _goes_on(call: CallOptions, previews: Sequence[Path]) -> bool:
    """Tell where the preview is, and ask whether to go on with the whole.

    On stderr: stdout is for scripts, which are told where it is and cannot be asked.
    """
    if call.json_lines:
        tell("preview", outputs=previews)
        return False
    for path in previews:
        print(path)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _log.warning("that is the preview; for the whole give the same without --preview")
        return False
    while True:
        print("pnpvideo: go on with the whole? [y/n] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if answer.strip().lower() in ("y", "yes"):
            return True
        if answer.strip().lower() in ("n", "no") or not answer:
            return False


def _merge(config: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """The settings of a file and of the command line, which wins."""
    replaced: set[str] = set()
    if "preset" in given:  # The file's steps are those of its own preset.
        replaced |= {"steps", "inversion_steps"}
    if "source" in given or "guidance_prompt" in given:  # Whichever kind of source the file has.
        replaced |= {"source", "guidance_prompt"}
    return {k: v for k, v in config.items() if k not in replaced} | dict(given)
