"""A preview of a run: its first frame, before the work on all frames."""

import contextlib
from pathlib import Path

from pnpvideo.options.settings import Settings
from pnpvideo.run.opening import read_inputs
from pnpvideo.run.outputs import fitting, plan_outputs


def preview_settings(settings: Settings, *, overwrite: bool) -> Settings | None:
    """Return the settings for a run of the first frame alone; None if there is no other frame.

    Its result is OUT-preview.png. InputError if the whole run would be refused.
    """
    if settings.source is None:
        return None
    with contextlib.ExitStack() as open_things:
        clip = read_inputs(settings, open_things).clip
        assert clip is not None
        whole = Path(plan_outputs(settings, clip, overwrite).output)
        if len(clip) == 1:
            return None
    only = {"frame_count": 1, "job": None, "check_inversion": False}
    output = fitting(str(whole.with_name(f"{whole.stem}-preview.png")), settings)
    return settings.model_copy(update=only | {"output": output})


def source_frames(settings: Settings) -> int:
    """Return how many frames of its source a run uses."""
    with contextlib.ExitStack() as open_things:
        clip = read_inputs(settings, open_things).clip
        return 1 if clip is None else len(clip)


def is_preview(settings: Settings) -> bool:
    """Return whether a file with a preview's name is a preview: its settings lie beside it."""
    return Path(f"{settings.output}.yaml").is_file()
