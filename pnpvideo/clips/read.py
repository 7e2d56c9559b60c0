"""Reading of clips: video | animated image | frame folder or pattern | single image -> Clip."""

from dataclasses import replace
from pathlib import Path

from pnpvideo.clips.clip import Clip, Timing
from pnpvideo.clips.find_images import check_there, is_pattern
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.refusals import beyond_memory, check_document
from pnpvideo.clips.stills.decode_image import open_image
from pnpvideo.clips.stills.read_images import read_folder, read_image, read_pattern
from pnpvideo.clips.video.open_video import is_motion_jpeg
from pnpvideo.clips.video.read_video import read_video
from pnpvideo.errors import InputError
from pnpvideo.options.paths import check_path


def read_clip(source: str | Path, **options: object) -> Clip:
    """Open a source of frames. Frames are decoded on demand, never all at once.

    Frames are returned upright, with square pixels, as RGB. With a stride, each chosen frame
    lasts as long as the frames that it replaces. The sound covers the chosen range. A video is
    decoded once on opening, up to the last frame needed, to list its frames and find damage
    before any expensive work.

    Args:
        source: A video file; an animated GIF, WebP or PNG; one image; a folder of images of one
            format, in natural order; a numbered pattern (frames/%04d.png) or a glob (frames/*.png,
            shots*/0001.png).
        options: `start`, `stride`, `frames`, `frame_rate`, `background` and others, as on [the
            page of every option](options.md).

    Returns:
        The open clip; close it with `close()`.

    Raises:
        InputError: With the reason if the source cannot be used.
    """
    chosen = ReadOptions.of(options)
    path = Path(check_path(str(source)))
    try:
        clip = _read(path, chosen)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise beyond_memory(path) from None
    if chosen.frame_rate is None:
        return clip
    if path.is_file():
        clip.close()
        raise InputError(f"a frame rate is for a folder or pattern of images, and {path} is a file")
    return replace(clip, timing=Timing(frame_rate=chosen.frame_rate / chosen.stride))


def _read(path: Path, options: ReadOptions) -> Clip:
    if path.is_dir():
        return read_folder(path, options)
    if not path.exists() and is_pattern(path):
        return read_pattern(path, options)
    check_there(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file or folder")
    with path.open("rb") as file:  # Raises the system's reason if it cannot be read.
        head = file.read(1024)
    if not head:
        raise InputError(f"{path} is empty")
    # The suffix is often wrong (messengers, cameras), so look at the contents.
    image = open_image(path, options.max_pixels)
    if image is None:
        check_document(path, head)
        return read_video(path, options)
    if image.format == "JPEG" and is_motion_jpeg(path, options.max_pixels):
        image.close()
        return read_video(path, options)
    return read_image(image, path, options)
