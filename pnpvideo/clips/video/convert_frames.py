"""FFmpeg's decoded frames -> pictures as they are shown: upright, square, RGB, 8 bits."""

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
    """Turns frames of one stream into pictures, one for each, in the same order.

    As pixels of (height, width, 3), or 4 with opacity last where the stream has one.
    """

    def __init__(self, facts: VideoFacts, *, deinterlace: bool, tone_map: bool) -> None:
        """deinterlace: what is flagged as interlaced. tone_map: see `ToneMap`."""
        high = facts.high_range if tone_map else None
        self._to_bt709 = None if high is None else ToneMap(high)
        form = {(False, False): "rgb24", (True, False): "rgba"}.get(
            (facts.has_alpha, high is not None), "rgba64le" if facts.has_alpha else "rgb48le"
        )
        matrix = "" if facts.matrix is None else f":in_color_matrix={facts.matrix}"
        # One picture for each frame, made of its two fields and those of its neighbours.
        fields: Filters = (("bwdif", "mode=send_frame:deint=interlaced"),) if deinterlace else ()
        self._filters: Filters = (
            *fields,
            *facts.upright,
            ("scale", f"{facts.width}:{facts.height}{matrix}"),
            ("format", form),
        )

    def convert(self, frames: Iterator[VideoFrame]) -> Iterator[NDArray[np.uint8]]:
        """The frames' pictures, each as soon as it can be. DamageError where one cannot."""
        try:
            yield from self._convert(frames)
        except FFmpegError as error:
            raise DamageError(error.strerror) from None

    def _convert(self, frames: Iterator[VideoFrame]) -> Iterator[NDArray[np.uint8]]:
        graph: Graph | None = None
        before: tuple[object, ...] = ()
        for frame in frames:
            form = (frame.width, frame.height, frame.format.name)
            kind = (*form, frame.colorspace, frame.color_range)
            if graph is None or kind != before:  # Parts of a joined stream may differ.
                if graph is not None:
                    yield from self._pull(graph, last=True)
                graph, before = self._make(frame), kind
            graph.vpush(frame)
            yield from self._pull(graph)
        if graph is not None:
            yield from self._pull(graph, last=True)

    def _make(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        colours = f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
        size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        # Pictures are told by their order; what unit their times have does not matter.
        chain = [("buffer", f"{size}:time_base=1/1000:{colours}"), *self._filters]
        nodes = [graph.add(name, options or None) for name, options in chain]
        graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        return graph

    def _pull(self, graph: Graph, last: bool = False) -> Iterator[NDArray[np.uint8]]:
        """All pictures that are ready. last: no further frame comes."""
        if last:
            graph.vpush(None)
        while True:
            try:
                picture = graph.vpull().to_ndarray()
            except (BlockingIOError, EOFError):  # av's own are kinds of these.
                return
            yield self._finish(picture)

    def _finish(self, picture: NDArray[np.generic]) -> NDArray[np.uint8]:
        if self._to_bt709 is None:
            return picture.view(np.uint8)
        deep = picture.view(np.uint16)
        rgb = self._to_bt709(np.ascontiguousarray(deep[..., :3]))
        return np.concatenate([rgb, (deep[..., 3:] >> 8).astype(np.uint8)], axis=-1)
