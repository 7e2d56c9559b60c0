"""Writing a picture of the mask that a run found."""

import numpy as np

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.write import write_clip
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.pixels.show_mask import as_frame, mask_sheet, shown_frames, whole
from pnpvideo.stages.mask import Mask
from pnpvideo.stages.source import Source


def write_mask(mask: Mask, source: Source, clip: Clip | None, path: str, overwrite: bool) -> None:
    """Write a picture of the part of a source that was edited.

    Of one frame it is the mask itself, white in that part and of the clip's own size, as `--mask`
    takes it; of several it is a sheet of some of them.
    """
    numbers = shown_frames(source.frame_count)
    masks = whole(mask.frames.of(numbers))
    if source.frame_count > 1:
        picture = mask_sheet(source.frames_at(numbers), masks)
    else:
        large = masks if clip is None else resize_frames(masks, clip.width, clip.height)
        picture = as_frame(np.where(large[0] > 127, np.uint8(255), np.uint8(0)))
    write_clip([picture[np.newaxis]], path, overwrite=overwrite)
