"""Which frames of a source a clip has, and how they are to be read."""

from pathlib import Path

from pnpvideo.clips.clip import tell_frames
from pnpvideo.errors import InputError
from pnpvideo.options.settings import ReadSettings


class ReadOptions(ReadSettings):
    """The options of `read_clip`."""

    @property
    def stop(self) -> int | None:
        """One past the last source frame that can be chosen; None: no limit."""
        if self.frame_count is None:
            return None
        return self.start + (self.frame_count - 1) * self.stride + 1

    def choose(self, count: int, source: Path) -> range:
        """The chosen ones of a source's `count` frames, at least one. InputError otherwise."""
        if self.start >= count:
            raise InputError(
                f"start is {self.start}; give at most {count - 1}, as {source} has "
                f"{tell_frames(count)}, counted from 0"
            )
        return range(self.start, count, self.stride)[: self.frame_count]
