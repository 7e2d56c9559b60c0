"""The choice of a source's frames, and how to read them."""

from pathlib import Path

from pnpvideo.clips.clip import frame_count_text
from pnpvideo.errors import InputError
from pnpvideo.options.settings import ReadSettings


class ReadOptions(ReadSettings):
    """The options of `read_clip`."""

    @property
    def stop(self) -> int | None:
        """Return the last source frame that can be chosen, plus one; None if there is no limit."""
        if self.frame_count is None:
            return None
        return self.start + (self.frame_count - 1) * self.stride + 1

    def choose(self, count: int, source: Path) -> range:
        """Return the numbers of the chosen frames. Raise InputError if `start` is too high."""
        if self.start >= count:
            raise InputError(
                f"start is {self.start}; give at most {count - 1}, as {source} has "
                f"{frame_count_text(count)}, counted from 0"
            )
        return range(self.start, count, self.stride)[: self.frame_count]
