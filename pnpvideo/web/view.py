"""What a browser shows of sources and results, whatever their formats are."""

from pathlib import Path

from PIL import Image

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.compare import side_by_side
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.resize import resize_frames
from pnpvideo.clips.write import write_clip
from pnpvideo.options.settings import ReadSettings, Settings

_THUMBNAIL = 160


def write_views(folder: Path, results: list[Path], settings: Settings) -> None:
    """Of each result view-1.mp4, the source at its left in step with it, or two pictures.

    The pictures are view-1-a.png, the source at the result's size, and view-1-b.png.
    """
    assert settings.source is not None
    for number, path in enumerate(results, 1):
        source = read_clip(settings.source, **settings.part(ReadSettings))
        result = read_clip(path, background=settings.background)
        try:
            if len(result) == 1:
                size = result.width, result.height
                save_picture(source.read(0, 1)[0], folder / f"view-{number}-a.png", size)
                save_picture(result.read(0, 1)[0], folder / f"view-{number}-b.png")
            else:
                write_clip(
                    side_by_side(source.batches(4), result.batches(4)),
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


def write_thumbnail(folder: Path, frame: Frames) -> None:
    picture = Image.fromarray(frame)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    picture.save(folder / "thumb.png")


def save_picture(frame: Frames, path: Path, size: tuple[int, int] | None = None) -> None:
    """A frame (height, width, 3), perhaps at another (width, height)."""
    frames = frame[None] if size is None else resize_frames(frame[None], *size)
    Image.fromarray(frames[0]).save(path)
