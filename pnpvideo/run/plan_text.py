"""The line with which a run describes itself."""

from pnpvideo.clips.clip import Clip, frame_count_text
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings
from pnpvideo.stages.source import Source

_HINT = "; --original-size enlarges the result"
_HINT_OF_MASK = "; --original-size keeps it, and each pixel outside the mask"


def plan_text(settings: Settings, options: PnPOptions, source: Source, clip: Clip | None) -> str:
    """Return what a run will do: "cat: 24 frames of 512 x 512 with sd15, 50 steps (best)"."""
    name = "a source from words" if clip is None else clip.name
    steps = "1 step" if options.steps == 1 else f"{options.steps} steps"
    if not {"steps", "inversion_steps"} & settings.model_fields_set:
        steps += f" ({settings.preset or 'best'})"
    of_source = None if clip is None else (clip.width, clip.height)
    size = of_source if settings.original_size and of_source else source.size
    masked = settings.mask is not None or settings.mask_from_prompt is not None
    text = (
        size_text(size, of_source, _HINT_OF_MASK, always=True)
        if masked
        else size_text(size, of_source)
    )
    return (
        f"{name}: {frame_count_text(source.frame_count)} of {text} with {settings.model}, {steps}"
    )


def size_text(
    size: tuple[int, int],
    of_source: tuple[int, int] | None,
    hint: str = _HINT,
    *,
    always: bool = False,
) -> str:
    """Return the size of a result, with that of its source if it is another one.

    hint: what makes a smaller result, or with `always` any other, as large as its source.
    """
    text = f"{size[0]} x {size[1]}"
    if of_source is None or size == of_source:
        return text
    smaller = any(one < other for one, other in zip(size, of_source, strict=True))
    return f"{text} (source {of_source[0]} x {of_source[1]}{hint if smaller or always else ''})"
