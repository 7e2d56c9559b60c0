"""Write pictures and videos of sources and results in formats that every browser shows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.options.settings import ReadSettings, Settings
from pnpvideo.pixels.carry_mask import carry_mask
from pnpvideo.pixels.mask import weights_of
from pnpvideo.pixels.mask_values import white_and_black
from pnpvideo.pixels.resize import resize_frames, side_by_side
from pnpvideo.pixels.scenes import find_scenes
from pnpvideo.pixels.show_mask import as_frame, tinted

SHOWN = 4
"""The number of frames in a preview."""
THUMBNAIL = "thumb.png"
_THUMBNAIL_SIDE = 160
_PREVIEW = 384
_HEIGHT = 256
_MARK = (255, 140, 0)
"""The colour of a frame around a picture."""


def write_views(
    folder: Path,
    results: list[Path],
    settings: Settings,
    generated: Path,
    check: Callable[[], None],
) -> None:
    """Write view-1.mp4 for the first result, with the source at its left, and so on.

    Of a single picture, write view-1-a.png, the source at the result's size, and view-1-b.png.
    generated: the source, if the settings have none because the model generated it. check: called
    before each batch of frames; may raise.
    """

    def checked(batches: Iterable[Frames]) -> Iterator[Frames]:
        for batch in batches:
            check()
            yield batch

    for number, path in enumerate(results, 1):
        source = read_clip(settings.source or generated, **settings.part(ReadSettings))
        result = read_clip(path, background=settings.background)
        try:
            if len(result) == 1:
                size = result.width, result.height
                save_picture(source.read(0, 1)[0], folder / f"view-{number}-a.png", size)
                save_picture(result.read(0, 1)[0], folder / f"view-{number}-b.png")
            else:
                write_clip(
                    side_by_side(checked(source.batches(4)), result.batches(4)),
                    folder / f"view-{number}.mp4",
                    timing=source.timing,
                    sound=source.sound,
                    overwrite=True,
                )
            if number == 1:
                write_thumbnail(folder, result.read(0, 1)[0])
        finally:
            source.close()
            result.close()


def write_mask_view(folder: Path, settings: Settings, check: Callable[[], None]) -> None:
    """Write views of how the mask of a source's first frame moves with the source.

    They show the mask in colour over the source, and beside that the mask itself, white where the
    source is edited. check: called before each batch of frames; may raise.
    """
    assert settings.source is not None
    assert settings.mask is not None
    source = read_clip(settings.source, **settings.part(ReadSettings))
    mask = white_and_black(read_clip(settings.mask, background="black"), settings.mask_label)
    size = _fitting(source.width, source.height)

    def frames() -> Iterator[Frames]:
        for batch in source.batches(4):
            check()
            yield resize_frames(batch, *size)

    try:
        first = resize_frames(weights_of(mask.read(0, 1)), *size)[0]
        inverted = np.uint8(255 if settings.invert_mask else 0)
        if len(source) == 1:
            (frame,) = next(frames())
            red = tinted(frame, first ^ inverted)
            write_thumbnail(folder, red)
            save_picture(red, folder / "view-1-a.png")
            save_picture(as_frame(first ^ inverted), folder / "view-1-b.png")
            return
        scenes = find_scenes(frames())
        masks = carry_mask(first, frames(), scenes)
        singles = (frame for batch in frames() for frame in batch)
        shown = (
            np.concatenate([tinted(frame, here), as_frame(here)], axis=1)[None]
            for frame, here in zip(singles, (mask[0] ^ inverted for mask in masks), strict=True)
        )
        write_thumbnail(folder, tinted(next(frames())[0], first ^ inverted))
        write_clip(shown, folder / "view-1.mp4", timing=source.timing, overwrite=True)
    finally:
        source.close()
        mask.close()


def write_source_preview(source: Clip, video: Path) -> None:
    """Write a small video of a source that every browser plays, without sound."""
    size = _fitting(source.width, source.height)
    frames = (resize_frames(batch, *size) for batch in source.batches(8))
    write_clip(frames, video, timing=source.timing, overwrite=True)


def _fitting(width: int, height: int) -> tuple[int, int]:
    """Return the size of a preview, with even sides."""
    share = min(1.0, _PREVIEW / max(width, height))
    return tuple(max(2, round(side * share / 2) * 2) for side in (width, height))  # type: ignore[return-value]


def write_thumbnail(folder: Path, frame: Frames) -> None:
    """Write a small picture of a frame (height, width, 3)."""
    picture = Image.fromarray(frame)
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    picture.save(folder / THUMBNAIL)


def save_picture(frame: Frames, path: Path, size: tuple[int, int] | None = None) -> None:
    """Write a frame (height, width, 3), resized to (width, height) if that is given."""
    frames = frame[None] if size is None else resize_frames(frame[None], *size)
    Image.fromarray(frames[0]).save(path)


def framed(picture: Frames) -> Frames:
    """Return a picture (height, width, 3) with a frame drawn on its edge."""
    width = max(2, min(picture.shape[:2]) // 40)
    marked = np.full_like(picture, _MARK)
    marked[width:-width, width:-width] = picture[width:-width, width:-width]
    return marked


def contact_strip(frames: Sequence[Frames]) -> Frames:
    """Return frames (height, width, 3) side by side, scaled down to the height of a preview."""
    stacked = np.stack(frames)
    height, width = stacked.shape[1:3]
    if height > _HEIGHT:
        stacked = resize_frames(stacked, max(1, round(width * _HEIGHT / height)), _HEIGHT)
    strip: Frames = np.concatenate(list(stacked), axis=1)
    return strip
