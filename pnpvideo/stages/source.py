"""The source as one thing that all stages are given: read once, its scenes found once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.clips.read_ahead import read_ahead
from pnpvideo.pixels.mask import Area
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.pixels.scenes import find_scenes
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.fingerprint import ClipFingerprint, of_tensors, of_values
from pnpvideo.storage.frame_store import FrameStore
from pnpvideo.storage.job_folder import Identity
from pnpvideo.storage.trajectory import Trajectory


class Source(ABC):
    """What is translated. Its frames are read when they are first asked for, and then kept.

    size: the working (width, height) in pixels. trajectory: its latents at all noise levels, some
    of which may still be missing. identity: what its inversion belongs to, for a job folder.
    area: which part is edited; None: all. mask: that part, once it is found, as `Weights` of all
    frames. control_image: what a ControlNet follows, where that is not drawn of the frames;
    control: what it follows, at the working size, once it is read or drawn.
    """

    trajectory: Trajectory
    identity: Identity

    def __init__(self, size: tuple[int, int], storage: Storage) -> None:
        self.size = size
        self.identity = {}
        self.area: Area | None = None
        self.mask: FrameStore | None = None
        self.control_image: Clip | None = None
        self.control: FrameStore | None = None
        self._storage = storage
        self._kept: FrameStore | None = None
        self._scenes: tuple[range, ...] = ()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A short text that tells its content from another's."""

    @abstractmethod
    def _read(self) -> Iterator[Frames]:
        """All frames at the working size, some at a time."""

    def frames(self, batch_size: int, span: range | None = None) -> Iterator[Frames]:
        """All frames, or a span of them, at the working size: uint8 (n, height, width, 3)."""
        return self._keep().batches(batch_size, span)

    @property
    def scenes(self) -> tuple[range, ...]:
        """The frame numbers of each scene (see `find_scenes`)."""
        self._keep()
        return self._scenes

    def _keep(self) -> FrameStore:
        """The frames, read now if they are not there yet: the one pass that there is."""
        if self._kept is None:
            store = self.store(3)
            try:
                self._scenes = find_scenes(store.write_all(read_ahead(self._read())))
            except BaseException:
                store.close()
                raise
            self._kept = store
        return self._kept

    def store(self, *channels: int) -> FrameStore:
        """An empty one for frames, or masks, of the working size."""
        width, height = self.size
        return FrameStore(*self._storage.open_file(), (height, width, *channels))

    def close(self) -> None:
        """Let go of the frames that are kept; the trajectory stays open."""
        for store in (self._kept, self.mask, self.control):
            if store is not None:
                store.close()


class ClipSource(Source):
    """A source of frames, of which the trajectory is made by inversion."""

    def __init__(
        self, clip: Clip, size: tuple[int, int], storage: Storage, batch_size: int
    ) -> None:
        """batch_size: frames that are read at a time."""
        super().__init__(size, storage)
        self._clip, self._batch_size = clip, batch_size
        self._seen = ClipFingerprint(clip)

    @property
    def fingerprint(self) -> str:
        """Of the pixels of all frames as they are in the clip."""
        self._keep()
        return str(self._seen)

    def _read(self) -> Iterator[Frames]:
        for frames in self._clip.batches(self._batch_size):
            self._seen.add(frames)
            yield resize_frames(frames, *self.size)


class TrajectorySource(Source):
    """A source of which there is nothing but the trajectory."""

    def __init__(
        self,
        trajectory: Trajectory,
        size: tuple[int, int],
        storage: Storage,
        decode: Callable[[], Iterator[Frames]],
    ) -> None:
        """decode: makes its frames of its clean latents."""
        super().__init__(size, storage)
        self.trajectory = trajectory
        self._decode = decode

    @property
    def fingerprint(self) -> str:
        """Of the two ends of the trajectory."""
        ends = (("noise", self.trajectory.noise), ("clean", self.trajectory.clean))
        return of_tensors(ends)

    def _read(self) -> Iterator[Frames]:
        return self._decode()


def area_identity(area: Area | None) -> Identity:
    """What tells results apart in which other parts are edited; feathers come after sampling."""
    if area is None:
        return {}
    seen = None if area.mask is None else fingerprint_of(area.mask)
    return {"mask": of_values(str(seen), area.named, area.moves, area.inverted)}


def fingerprint_of(clip: Clip) -> str:
    """A short text that tells a clip's pixels from another's."""
    seen = ClipFingerprint(clip)
    for frames in clip.batches(8):
        seen.add(frames)
    return str(seen)
