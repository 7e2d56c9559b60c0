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

    @property
    def most_looked_at(self) -> int:
        """Return how many frames to look at: those that can be chosen and what the last one
        replaces, or one more than are allowed."""
        most = self.max_frames + 1
        return most if self.stop is None else min(most, self.stop + self.stride)

    def check_count(self, count: int, source: Path) -> None:
        """Raise InputError if these are too many frames. Those after the last that can be chosen
        do not count."""
        if count > self.max_frames and (self.stop is None or self.stop > self.max_frames):
            raise InputError(
                f"{source} has more than {frame_count_text(self.max_frames)}, which is the limit "
                "(--max-frames); take fewer with --frames, or cut it"
            )

    def choose(self, count: int, source: Path) -> range:
        """Return the numbers of the chosen frames. Raise InputError if `start` is too high, or if
        there are too many frames.
        """
        self.check_count(count, source)
        if self.start >= count:
            raise InputError(
                f"start is {self.start}; give at most {count - 1}, as {source} has "
                f"{frame_count_text(count)}, counted from 0"
            )
        return range(self.start, count, self.stride)[: self.frame_count]
