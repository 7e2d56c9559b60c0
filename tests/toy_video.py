"""A toy model of videos: a latent in time holds two frames, the first of a scene one, and the
network relates all latents of a clip to one another.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from toy_model import FACTOR, ToyModel, ToyNet

from pnpvideo.errors import InputError
from pnpvideo.models.model import Control, Size, Window
from pnpvideo.models.network import Batch, Change, InjectionLayers
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.model import ModelSettings

FRAMES = 2
CHANNELS = 3 * FRAMES


class ToyVideoAutoencoder:
    """An `Autoencoder`: running means of squares of pixels, so that a latent depends on all frames
    before it, as in a causal autoencoder.
    """

    factor = FACTOR
    dtype = torch.float32

    def latents_shape(self, piece_count: int, size: Size) -> tuple[int, ...]:
        width, height = (side // FACTOR for side in size)
        return piece_count, CHANNELS, height, width

    def size_of(self, shape: Sequence[int]) -> Size:
        return shape[-1] * FACTOR, shape[-2] * FACTOR

    def pieces(self, frame_count: int, scenes: Callable[[], Sequence[range]]) -> tuple[range, ...]:
        found: list[range] = []
        for scene in scenes():
            starts = [scene.start, *range(scene.start + 1, scene.stop, FRAMES), scene.stop]
            found += map(range, starts[:-1], starts[1:])
        return tuple(found)

    def frame_count(self, piece_count: int) -> int:
        return 1 + FRAMES * (piece_count - 1)

    def encoder(self) -> Callable[[Tensor], Tensor]:
        before: Tensor | None = None

        def encode(images: Tensor) -> Tensor:
            nonlocal before
            small = functional.avg_pool2d(images, FACTOR)
            if before is None:
                small = torch.cat([small[:1]] * (FRAMES - 1) + [small])
            small = torch.cat([small, small[-1:].expand(-len(small) % FRAMES, -1, -1, -1)])
            latents = []
            for one in small.unflatten(0, (-1, FRAMES)).flatten(1, 2):
                before = one if before is None else one - 0.25 * before
                latents.append(before)
            return torch.stack(latents)

        return encode

    def decoder(self) -> Callable[[Tensor], Tensor]:
        before: Tensor | None = None

        def decode(latents: Tensor) -> Tensor:
            nonlocal before
            frames: list[Tensor] = []
            for one in latents:
                shown = one if before is None else one + 0.25 * before
                all_frames = shown.unflatten(0, (FRAMES, 3))
                frames += all_frames[-1:] if before is None else all_frames
                before = one
            images = torch.stack(frames).float()
            return functional.interpolate(images, scale_factor=FACTOR, mode="nearest").clamp(-1, 1)

        return decode

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder()(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder()(latents)

    def use_tiles(self) -> None:
        raise NotImplementedError


class ToyVideoNetwork:
    """A `TransformerNetwork` that takes clips (rows, c, pieces, h, w).

    windows: the pieces of each pass. room: the most rows in a pass; more run out of memory.
    """

    device = torch.device("cpu")

    def __init__(self, net: ToyNet) -> None:
        self.net = net
        self.batch: Batch | None = None
        self.windows: list[tuple[int, ...]] = []
        self.room: int | None = None

    def predict(self, batch: Batch) -> Tensor:
        rows, _, count, *_ = batch.latents.shape
        assert rows == len(batch.texts)
        assert count == len(batch.pieces)
        if self.room is not None and rows > self.room:
            raise torch.OutOfMemoryError("too many rows")
        self.windows.append(batch.pieces)
        text = batch.texts.hidden.mean(1).to(batch.latents)
        self.batch = batch
        try:
            # Time and height as one axis: the convolution and the attention see all latents.
            flat = batch.latents.flatten(2, 3)
            output: Tensor = self.net(flat, batch.timestep, text)
        finally:
            self.batch = None
        return output.view_as(batch.latents)

    def feature(self, name: str) -> None:
        raise InputError("the toy has no features")

    attentions = feature

    def tokens_of(self, block: str, kind: str) -> "ToyTokens":
        layers = {"q": "to_q", "k": "to_k", "v": "to_v"}
        return ToyTokens(getattr(self.net.attention, layers[kind]))

    @property
    def middle_tokens(self) -> "ToyTokens":
        return ToyTokens(self.net.attention)


class ToyTokens:
    """A `PictureTokens`: the output of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        with self.layer.register_forward_hook(lambda _, __, output: change(output)):
            yield


class ToyVideo(ToyModel):
    """A `Model` of videos."""

    autoencoder = ToyVideoAutoencoder()  # type: ignore[assignment]
    window = Window(length=4, stride=3)
    layers = InjectionLayers(features=(), attentions=(), shared=(), blocks=(("attention", "kv"),))
    defaults = PnPOptions(steps=3, guidance_scale=3.0, blend_radius=0)

    def __init__(self) -> None:
        super().__init__()
        self.clips = ToyVideoNetwork(self.net)

    @contextmanager
    def network(self, control: Control | None = None) -> Iterator[ToyVideoNetwork]:  # type: ignore[override]
        yield self.clips


def open_toy_video(settings: ModelSettings) -> ToyVideo:
    """Load the toy, whatever the settings say: an `Opener`."""
    return ToyVideo()
