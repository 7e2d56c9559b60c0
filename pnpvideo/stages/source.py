"""The source of an edit: its frames, which are read once, its pieces and its trajectory."""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.clips.read_ahead import read_ahead
from pnpvideo.models.model import Window
from pnpvideo.options.method import ControlKind
from pnpvideo.pixels.control import control_frames, draw_control
from pnpvideo.pixels.mask import Area
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.pixels.scenes import find_scenes
from pnpvideo.sampling.windows import Scenes
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.fingerprint import ClipFingerprint, of_tensors, of_values
from pnpvideo.storage.frame_store import FrameStore
from pnpvideo.storage.job_folder import Identity
from pnpvideo.storage.trajectory import Held, Trajectory

_FINDING = "2"
"""The version of the way in which words find a mask: steps made with another one are not used."""


class KeptFrames(ABC):
    """Frames at the working size. They are read when they are first asked for, and then kept.

    size: the working (width, height) in pixels.
    """

    def __init__(self, size: tuple[int, int], storage: Storage) -> None:
        self.size = size
        self._storage = storage
        self._kept: FrameStore | None = None
        self._scenes: tuple[range, ...] = ()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short text that differs if the content differs."""

    @abstractmethod
    def _read(self) -> Iterator[Frames]:
        """Read all frames at the working size, some at a time."""

    def batches(self, batch_size: int, span: range | None = None) -> Iterator[Frames]:
        """Return all frames, or a span of them: uint8 (n, height, width, 3)."""
        return self._keep().batches(batch_size, span)

    def at(self, numbers: Sequence[int]) -> Frames:
        """Return the frames of these numbers, in their order."""
        return self._keep().of(numbers)

    @property
    def scenes(self) -> tuple[range, ...]:
        """The frame numbers of each scene (see `find_scenes`)."""
        self._keep()
        return self._scenes

    def _keep(self) -> FrameStore:
        """Return the stored frames. The first call reads them, in the only pass there is."""
        if self._kept is None:
            store = self.store(3)
            try:
                self._scenes = find_scenes(store.write_all(self._read()))
            except BaseException:
                store.close()
                raise
            self._kept = store
        return self._kept

    def store(self, *channels: int) -> FrameStore:
        """Return an empty store for frames, or masks, of the working size."""
        width, height = self.size
        return FrameStore(*self._storage.open_file(), (height, width, *channels))

    def close(self) -> None:
        """Delete the kept frames."""
        if self._kept is not None:
            self._kept.close()


class ClipFrames(KeptFrames):
    """The frames of a clip, resized to the working size."""

    def __init__(
        self, clip: Clip, size: tuple[int, int], storage: Storage, batch_size: int
    ) -> None:
        """Take a clip. batch_size: how many frames to read at a time."""
        super().__init__(size, storage)
        self._clip, self._batch_size = clip, batch_size
        self._seen = ClipFingerprint(clip)

    @property
    def fingerprint(self) -> str:
        """A hash of the pixels of all frames as they are in the clip."""
        self._keep()
        return str(self._seen)

    def _read(self) -> Iterator[Frames]:
        return read_ahead(self._resized())

    def _resized(self) -> Iterator[Frames]:
        for frames in self._clip.batches(self._batch_size):
            self._seen.add(frames)
            yield resize_frames(frames, *self.size)


class DecodedFrames(KeptFrames):
    """The frames that a trajectory's clean latents decode to."""

    def __init__(
        self,
        trajectory: Trajectory,
        size: tuple[int, int],
        storage: Storage,
        decode: Callable[[], Iterator[Frames]],
    ) -> None:
        """Take a trajectory. decode: returns the frames of its clean latents."""
        super().__init__(size, storage)
        self._trajectory = trajectory
        self._decode = decode

    @property
    def fingerprint(self) -> str:
        """A hash of the two ends of the trajectory."""
        ends = (("noise", self._trajectory.noise), ("clean", self._trajectory.clean))
        return of_tensors(ends)

    def _read(self) -> Iterator[Frames]:
        # Not ahead: this thread may have the model's turn, and another would wait for it.
        return self._decode()


class Source:
    """The clip, generated picture or trajectory that is edited.

    pieces: the numbers of the frames in each piece. window: for a video model, how the pieces of a
    scene go through it; the trajectory then says how many frames they hold. trajectory: the latents
    of all pieces at all noise levels, some of which may not be inverted yet. identity: what its
    inversion depends on, for a job folder. area: the part that is edited; None: all.
    """

    def __init__(
        self,
        frames: KeptFrames,
        pieces: tuple[range, ...],
        trajectory: Trajectory,
        *,
        window: Window | None = None,
        identity: Identity | None = None,
        area: Area | None = None,
        control_image: Clip | None = None,
    ) -> None:
        """control_image: pictures for a ControlNet to follow; None: drawn from the frames."""
        self.pieces, self.trajectory = pieces, trajectory
        self.identity: Identity = identity or {}
        self.area = area
        self._frames = frames
        self._window = window
        self._control_image = control_image
        self._control: dict[ControlKind | None, FrameStore] = {}

    @property
    def size(self) -> tuple[int, int]:
        """The working (width, height) in pixels."""
        return self._frames.size

    @property
    def frame_count(self) -> int:
        return self.pieces[-1].stop

    @property
    def piece_count(self) -> int:
        return len(self.pieces)

    @property
    def held(self) -> Held:
        """How many frames each piece holds; for a video model, scene by scene."""
        return self.trajectory.held or (tuple(map(len, self.pieces)),)

    def frames(self, batch_size: int) -> Iterator[Frames]:
        """Return all frames at the working size, some at a time: uint8 (n, height, width, 3)."""
        return self._frames.batches(batch_size)

    def frames_of(self, pieces: range) -> Frames:
        """Return the frames of consecutive pieces."""
        span = range(self.pieces[pieces.start].start, self.pieces[pieces.stop - 1].stop)
        (frames,) = self._frames.batches(len(span), span)
        return frames

    def frames_at(self, numbers: Sequence[int]) -> Frames:
        """Return the frames of these numbers, in their order."""
        return self._frames.at(numbers)

    @property
    def scenes(self) -> tuple[range, ...]:
        """The frame numbers of each scene (see `find_scenes`)."""
        return self._frames.scenes

    @property
    def piece_scenes(self) -> tuple[range, ...]:
        """The piece numbers of each scene; a piece belongs to the scene of its first frame."""
        if self.trajectory.held:
            stops = accumulate(map(len, self.trajectory.held))
            return tuple(range(first, stop) for first, stop in pairwise([0, *stops]))
        starts = [piece.start for piece in self.pieces]
        edges = {bisect_left(starts, scene.start) for scene in self.scenes} | {len(starts)}
        return tuple(range(first, stop) for first, stop in pairwise(sorted(edges)))

    @property
    def clips(self) -> Scenes | None:
        """The scenes as a video model takes them; None for a model of images."""
        if self._window is None:
            return None
        return Scenes(scenes=self.piece_scenes, window=self._window)

    def is_controlled(self, kind: ControlKind | None) -> bool:
        """Return whether there is something for a ControlNet to follow, given or to be drawn."""
        return kind is not None or self._control_image is not None

    def control_pictures(self, kind: ControlKind | None, batch_size: int) -> FrameStore:
        """Return the pictures for a ControlNet to follow, read or drawn at the first call.

        kind: what to draw from the frames, if no pictures were given.
        """
        if kind not in self._control:
            if self._control_image is not None:
                pictures = control_frames(self._control_image, self.size, batch_size)
            else:
                assert kind is not None
                pictures = (draw_control(frames, kind) for frames in self.frames(batch_size))
            store = self.store(3)
            self._control[kind] = store
            for _ in store.write_all(pictures):
                pass
        return self._control[kind]

    def store(self, *channels: int) -> FrameStore:
        """Return an empty store for frames, or masks, of the working size."""
        return self._frames.store(*channels)

    def close(self) -> None:
        """Delete the kept frames and control pictures; the trajectory stays open."""
        for store in self._control.values():
            store.close()
        self._frames.close()


def pieces_of(held: Held) -> tuple[range, ...]:
    """Return the numbers of the frames in each piece, from how many each holds."""
    stops = accumulate(count for scene in held for count in scene)
    return tuple(range(first, stop) for first, stop in pairwise([0, *stops]))


def held_in(pieces: Sequence[range], scenes: Sequence[range]) -> Held:
    """Return how many frames each piece holds, scene by scene. No piece is of two scenes."""
    return tuple(tuple(len(piece) for piece in pieces if piece.start in scene) for scene in scenes)


def area_identity(area: Area | None) -> Identity:
    """Return the identity of the edited part, without feathers, which come after sampling."""
    if area is None:
        return {}
    seen = _FINDING if area.mask is None else fingerprint_of(area.mask)
    return {"mask": of_values(str(seen), area.named, area.moves, area.inverted)}


def fingerprint_of(clip: Clip) -> str:
    """Return a short text that differs for other pixels."""
    seen = ClipFingerprint(clip)
    for frames in clip.batches(8):
        seen.add(frames)
    return str(seen)
