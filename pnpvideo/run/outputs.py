"""The names of a run's results, and writing them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

from pnpvideo.clips.clip import Alpha, Clip, Colour, Frames
from pnpvideo.clips.find_images import images_like
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.read_ahead import read_ahead
from pnpvideo.clips.write import (
    ALPHA_SUFFIXES,
    SINGLE_SUFFIXES,
    SUFFIXES,
    check_output,
    write_clip,
)
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import check_free, folder_above
from pnpvideo.files.file_names import longest_name, name_size, shortened
from pnpvideo.options.settings import Settings
from pnpvideo.pixels.mask import Area, Weights, composite, within
from pnpvideo.pixels.resize import resize_frames, side_by_side

# A result has its source's format where it is one of these.
_KEPT_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".gif", ".webp", *SINGLE_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files that a run writes.

    output: as requested; results: one for each prompt; compares: the same, source beside
    result, or none; mask: a picture of the mask that is found by words, or None; record: the
    settings. A name of a folder may end with a slash.
    """

    output: str
    results: tuple[str, ...]
    compares: tuple[str, ...]
    mask: str | None = None
    record: Path

    @property
    def clips(self) -> tuple[str, ...]:
        """All results and comparisons."""
        return (*self.results, *self.compares)

    @property
    def files(self) -> tuple[str, ...]:
        """All that is written, the settings last."""
        mask = () if self.mask is None else (self.mask,)
        return (*self.clips, *mask, str(self.record))


def plan_outputs(settings: Settings, clip: Clip | None, overwrite: bool) -> Outputs:
    """Return the files that a run writes. InputError unless all can be written; changes nothing.

    clip: the source; None if the model generates it.
    """
    if settings.compare and clip is None:
        raise InputError("a generated source has no file to compare with; leave out compare")
    if settings.keep_alpha and clip is None:
        raise InputError("a generated source has no transparency to keep; leave out keep_alpha")
    outputs = _named(settings, settings.output or default_output(settings, clip))
    # What has no transparency can be written in any format, as in a folder of different sources.
    keeps_alpha = settings.keep_alpha and clip is not None and clip.has_alpha
    for path in outputs.files[:-1]:
        is_mask = path == outputs.mask
        target = check_output(path, overwrite, alpha=keeps_alpha and not is_mask)
        is_single = target.suffix.lower() in SINGLE_SUFFIXES and not is_mask
        if is_single and clip is not None and len(clip) > 1:
            raise InputError(
                f"{path} is one image, and the source has {len(clip)} frames; "
                "name a video or a folder, or give --frames 1"
            )
        check_apart(target, "source", settings.source)
        check_apart(target, "mask", settings.mask)
        check_apart(target, "control image", settings.control_image)
        check_apart(target, "picture of the IP-Adapter", settings.ip_adapter_image)
        if settings.job is not None and Path(settings.job).resolve() == target.resolve():
            raise InputError(f"{path} is the job folder; choose another name for the result")
    check_free(outputs.record, folder=False, overwrite=overwrite)
    return outputs


def _named(settings: Settings, output: str) -> Outputs:
    """Return the files of a run with this output."""
    results: tuple[str, ...] = (output,)
    if len(settings.prompt) > 1:
        results = tuple(_beside(output, f"-{i + 1}") for i in range(len(settings.prompt)))
    return Outputs(
        output=output,
        results=results,
        compares=tuple(_beside(path, "-compare") for path in results) if settings.compare else (),
        # All results of a source have the same mask.
        mask=None if settings.mask_from_prompt is None else _mask_name(output),
        record=Path(f"{output.rstrip('/')}.yaml"),
    )


def fitting(output: str, settings: Settings) -> str:
    """Return an output whose name, and the names of the files beside it, the disk can hold.

    A name that is too long is shortened; different outputs stay different.
    """
    path = Path(output)
    limit = longest_name(folder_above(path))
    parent = Path(*(shortened(name, limit) for name in path.parent.parts))
    longest = max(name_size(Path(name).name) for name in _named(settings, output).files)
    suffix = path.suffix if path.suffix.lower() in SUFFIXES else ""
    stem = path.name.removesuffix(suffix)
    room = name_size(stem) - max(0, longest - limit)
    return f"{parent / shortened(stem, room)}{suffix}{'/' * output.endswith('/')}"


def check_apart(output: Path, what: str, given: str | None) -> None:
    """Raise InputError if an output would write over something that was given."""
    if given is not None and _leads_to(output, Path(given)):
        raise InputError(f"{output} would write over the {what}; choose another name")


def _leads_to(output: Path, source: Path) -> bool:
    """Return whether an output, by any path or link, is or holds the source or its frames."""
    if not output.exists():
        return False
    # A pattern of images is what its folders hold.
    sources = [source] if source.exists() else {path.parent for path in images_like(source)}
    for place in (one.resolve() for one in sources):
        if output.is_dir():
            leads = any(output.samefile(folder) for folder in (place, *place.parents))
        else:
            is_frame = output.suffix.lower() in SINGLE_SUFFIXES
            leads = output.samefile(place) or (is_frame and output.resolve().parent == place)
        if leads:
            return True
    return False


def write_result(
    frames: Iterator[Frames],
    output: str,
    clip: Clip | None,
    settings: Settings,
    overwrite: bool,
    mask: Iterator[Weights] | None = None,
    area: Area | None = None,
) -> None:
    """Write a result's frames as they come, with what belongs to them of their source.

    That is its timing, its sound and, where it is to be kept, its transparency. mask: where the
    frames are not the source's; at the source's own size they are put into it once more, within
    the mask of `area` if there is one that stays.
    """
    frames = read_ahead(frames)
    if settings.original_size and clip is not None:
        width, height = clip.width, clip.height
        frames = (resize_frames(batch, width, height) for batch in frames)
        if mask is not None:
            weights = (resize_frames(batch, width, height) for batch in mask)
            if area is not None and area.mask is not None and not area.moves:
                weights = within(weights, area, len(clip))
            frames = composite(frames, clip.batches(settings.batch_size), weights)
    alpha = None
    if settings.keep_alpha and clip is not None and clip.has_alpha:
        frames, again = tee(frames)
        alpha = _alpha_like(again, clip)
    _write(frames, output, clip, settings, overwrite, alpha)


def _alpha_like(frames: Iterator[Frames], clip: Clip) -> Iterator[Alpha]:
    """Yield the opacity of a clip's frames, in batches and at the size of the given frames."""
    done = 0
    for batch in frames:
        _, height, width, _ = batch.shape
        yield resize_frames(clip.read_alpha(done, done + len(batch)), width, height)
        done += len(batch)


def write_compare(
    result: str, compare: str, clip: Clip, settings: Settings, overwrite: bool
) -> None:
    """Write a source beside its result, which is read from its file."""
    written = read_clip(result, background=settings.background, hdr=settings.hdr)
    try:
        left, right = (one.batches(settings.batch_size) for one in (clip, written))
        _write(side_by_side(left, right), compare, clip, settings, overwrite)
    finally:
        written.close()


def _write(
    frames: Iterator[Frames],
    output: str,
    clip: Clip | None,
    settings: Settings,
    overwrite: bool,
    alpha: Iterator[Alpha] | None = None,
) -> None:
    write_clip(
        frames,
        output,
        timing=clip.timing if clip is not None else None,
        sound=clip.sound if clip is not None else None,
        tracks=settings.sound,
        colour=clip.colour if clip is not None else Colour(),
        alpha=alpha,
        quality=settings.quality,
        overwrite=overwrite,
    )


def default_output(settings: Settings, clip: Clip | None) -> str:
    """Return a name in the current folder, after the source and in its format if possible."""
    stem, suffix = default_name(settings, clip)
    # A dot in the name of a folder would be read as the beginning of a suffix.
    end = suffix or "/" * ("." in stem)
    return fitting(f"{stem}-translated{end}", settings)


def default_name(settings: Settings, clip: Clip | None) -> tuple[str, str]:
    """Return the stem of a result's name, and its suffix; '' for a folder of frames."""
    if clip is None or settings.source is None:
        return "generated", ".png"
    source = Path(settings.source)
    suffix = source.suffix.lower()
    if clip.timing is None and len(clip) > 1:
        suffix = ""
    elif clip.timing is None and suffix not in SINGLE_SUFFIXES:
        suffix = ".png"
    elif clip.timing is not None and (suffix not in _KEPT_SUFFIXES or suffix in SINGLE_SUFFIXES):
        suffix = ".mp4"
    if settings.keep_alpha and clip.has_alpha and suffix and suffix not in ALPHA_SUFFIXES:
        suffix = ".png" if clip.timing is None else ".webp"
    # A pattern is named for the folder of its images.
    stem = source.stem if source.exists() else Path(clip.name).stem
    return stem, suffix


def _mask_name(output: str) -> str:
    """Return the name of the picture of the mask that belongs to an output."""
    path = Path(output)
    stem = path.name if output.endswith("/") else path.stem
    return str(path.with_name(f"{stem}-mask.png"))


def _beside(output: str, ending: str) -> str:
    """Return the same name with an ending before its suffix."""
    path = Path(output)
    if output.endswith("/"):
        return f"{path}{ending}/"
    return str(path.with_name(f"{path.stem}{ending}{path.suffix}"))
