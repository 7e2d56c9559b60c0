"""Pictures and clips that are embedded in a page."""

import base64
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pnpvideo.clips.clip import Frames, Timing
from pnpvideo.clips.write import write_clip
from pnpvideo.evaluation.masks import Masks
from pnpvideo.options.values import DEFAULT_FRAME_RATE
from pnpvideo.pixels.resize import resize_frames

_SIDE = 288  # pixels of the longer side


def picture(frames: Frames) -> str:
    """Return a data URL of the first frame."""
    with BytesIO() as file:
        Image.fromarray(_thumbnails(frames[:1])[0]).save(file, "JPEG", quality=88)
        return _url("image/jpeg", file.getvalue())


def video(frames: Frames) -> str:
    """Return a data URL of a clip in H.264."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        timing = Timing(frame_rate=DEFAULT_FRAME_RATE)
        write_clip([_thumbnails(frames)], path, timing=timing, quality=70)
        return _url("video/mp4", path.read_bytes())


def slice_over_time(frames: Frames) -> str:
    """Return a data URL of the middle row of pixels over time, from top to bottom."""
    small = _thumbnails(frames)
    _, height, width, _ = small.shape
    rows = small[:, height // 2]
    # A frame is at least two pixels high, and a long clip not higher than the picture.
    tall = np.asarray(Image.fromarray(rows).resize((width, min(height, max(2 * len(rows), 48))), 0))
    return picture(tall[None])


def mask_picture(mask: Masks) -> str:
    """Return a data URL of the first frame's mask, white at pixels to edit."""
    return picture((mask[:1, ..., None] * np.uint8(255)).repeat(3, axis=-1))


def _thumbnails(frames: Frames) -> Frames:
    _, height, width, _ = frames.shape
    scale = min(1, _SIDE / max(width, height))
    return resize_frames(frames, max(1, round(width * scale)), max(1, round(height * scale)))


def _url(mime_type: str, content: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"
