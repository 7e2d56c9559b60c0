"""Conversion of FFmpeg's decoded frames -> pictures as shown: upright, square, RGB, 8 bits."""

from collections.abc import Iterator

import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from pnpvideo.clips.video.open_video import DamageError
from pnpvideo.clips.video.probe_video import Filters, VideoFacts
from pnpvideo.clips.video.tone_map import ToneMap


class Converter:
    """A converter of one stream's frames to pictures, one for each frame, in the same order.

    Pictures are uint8 of shape (height, width, 3), or (height, width, 4) if the stream has alpha.
    """

    def __init__(self, facts: VideoFacts, *, deinterlace: bool, tone_map: bool) -> None:
        """Set up the filters. deinterlace: for frames flagged so. tone_map: see `ToneMap`."""
        high_range = facts.high_range if tone_map else None
        self._to_bt709 = None if high_range is None else ToneMap(high_range)
        pixel_format = {(False, False): "rgb24", (True, False): "rgba"}.get(
            (facts.has_alpha, high_range is not None), "rgba64le" if facts.has_alpha else "rgb48le"
        )
        matrix = "" if facts.matrix is None else f":in_color_matrix={facts.matrix}"
        # One picture for each frame, from its two fields and those of its neighbours.
        fields: Filters = (("bwdif", "mode=send_frame:deint=interlaced"),) if deinterlace else ()
        self._filters: Filters = (
            *fields,
            *facts.upright,
            ("scale", f"{facts.width}:{facts.height}{matrix}"),
            ("format", pixel_format),
        )

    def convert(self, frames: Iterator[VideoFrame]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames' pictures as they become ready. Raise DamageError if a frame fails."""
        try:
            yield from self._convert(frames)
        except FFmpegError:
            raise DamageError("a frame cannot be converted") from None

    def _convert(self, frames: Iterator[VideoFrame]) -> Iterator[NDArray[np.uint8]]:
        graph: Graph | None = None
        previous: tuple[object, ...] = ()
        for frame in frames:
            picture_format = (frame.width, frame.height, frame.format.name)
            kind = (*picture_format, frame.colorspace, frame.color_range)
            if graph is None or kind != previous:  # Parts of a joined stream may differ.
                if graph is not None:
                    yield from self._pull(graph, last=True)
                graph, previous = self._make(frame), kind
            graph.vpush(frame)
            yield from self._pull(graph)
        if graph is not None:
            yield from self._pull(graph, last=True)

    def _make(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        colours = f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
        size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        # Pictures are matched by order, so the unit of their times does not matter.
        chain = [("buffer", f"{size}:time_base=1/1000:{colours}"), *self._filters]
        nodes = [graph.add(name, options or None) for name, options in chain]
        graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        return graph

    def _pull(self, graph: Graph, last: bool = False) -> Iterator[NDArray[np.uint8]]:
        """Yield all pictures that are ready. last: whether no further frame comes."""
        if last:
            graph.vpush(None)
        while True:
            try:
                picture = graph.vpull().to_ndarray()
            except (BlockingIOError, EOFError):  # PyAV's errors are subclasses of these.
                return
            yield self._finish(picture)

    def _finish(self, picture: NDArray[np.generic]) -> NDArray[np.uint8]:
        if self._to_bt709 is None:
            return picture.view(np.uint8)
        deep = picture.view(np.uint16)
        rgb = self._to_bt709(np.ascontiguousarray(deep[..., :3]))
        return np.concatenate([rgb, (deep[..., 3:] >> 8).astype(np.uint8)], axis=-1)
