"""A family of models that has nothing of Stable Diffusion's: a small network without levels, which
predicts the velocity of flow matching for pieces of two frames.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from pnpvideo.errors import InputError
from pnpvideo.models.model import Control, Size, Window
from pnpvideo.models.network import Batch, Change, InjectionLayers
from pnpvideo.models.noise_schedule import NoiseSchedule, flow_schedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.model import ModelSettings
from pnpvideo.sampling.attend import attend, split_heads
from pnpvideo.storage import fingerprint

FRAMES = 2
"""In a piece."""
FACTOR = 4
WIDTH = 8
TOKENS = 3


class ToyNet(nn.Module):
    """x + mix(x), then self-attention over the places, both under the text and the timestep."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3 * FRAMES
        self.enter = nn.Conv2d(channels, WIDTH, 1)
        self.text = nn.Linear(WIDTH, WIDTH)
        self.time = nn.Linear(2, WIDTH)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.attention = ToyLayer()
        self.leave = nn.Conv2d(WIDTH, channels, 1)

    def forward(self, latents: Tensor, timestep: float, text: Tensor) -> Tensor:
        sigma = timestep / 1000
        time = torch.tensor([math.sin(3 * sigma), math.cos(3 * sigma)]).to(latents)
        x = self.enter(latents) + (self.text(text) + self.time(time))[..., None, None]
        x = x + self.mix(functional.silu(x))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens)
        return self.leave(tokens.transpose(1, 2).unflatten(2, x.shape[-2:]))


class ToyLayer(nn.Module):
    """Self-attention of two heads, which can be computed in another way."""

    heads = 2

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.compute: Change | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        if self.compute is not None:
            return self.compute(tokens)
        parts = (
            split_heads(part(tokens), self.heads) for part in (self.to_q, self.to_k, self.to_v)
        )
        output: Tensor = self.to_out(attend(*parts))
        return output


@dataclass(frozen=True)
class ToyAttention:
    """A `SelfAttention`."""

    layer: ToyLayer

    @property
    def heads(self) -> int:
        return self.layer.heads

    def query(self, tokens: Tensor) -> Tensor:
        return self.layer.to_q(tokens)  # type: ignore[no-any-return]

    def key(self, tokens: Tensor) -> Tensor:
        return self.layer.to_k(tokens)  # type: ignore[no-any-return]

    def value(self, tokens: Tensor) -> Tensor:
        return self.layer.to_v(tokens)  # type: ignore[no-any-return]

    def project(self, output: Tensor) -> Tensor:
        return self.layer.to_out(output)  # type: ignore[no-any-return]

    @contextmanager
    def replaced(self, by: Change) -> Iterator[None]:
        before, self.layer.compute = self.layer.compute, by
        try:
            yield
        finally:
            self.layer.compute = before

    @contextmanager
    def watched(self, see: Callable[[Tensor], None]) -> Iterator[None]:
        with self.layer.register_forward_pre_hook(lambda _, inputs: see(inputs[0])):
            yield


@dataclass(frozen=True)
class ToyPoint:
    """A `HookPoint`: one module."""

    module: nn.Module

    @contextmanager
    def changed(self, enter: Change, leave: Change) -> Iterator[None]:
        with ExitStack() as hooks:
            before = self.module.register_forward_pre_hook(lambda _, inputs: enter(inputs[0]))
            after = self.module.register_forward_hook(lambda _, inputs, output: leave(output))
            hooks.enter_context(before)
            hooks.enter_context(after)
            yield


class ToyNetwork:
    """A `Network`, and no UNet."""

    device = torch.device("cpu")

    def __init__(self, net: ToyNet) -> None:
        self.net = net
        self.batch: Batch | None = None
        self.passes = 0

    def predict(self, batch: Batch) -> Tensor:
        text = batch.texts.hidden.mean(1).repeat_interleave(batch.piece_count, dim=0)
        self.batch = batch
        self.passes += 1
        try:
            output: Tensor = self.net(batch.latents, batch.timestep, text.to(batch.latents))
        finally:
            self.batch = None
        return output

    def feature(self, name: str) -> ToyPoint:
        if name != "mix":
            raise InputError(f"the toy has no feature {name!r}")
        return ToyPoint(self.net.mix)

    def attentions(self, name: str) -> list[ToyAttention]:
        if name != "attention":
            raise InputError(f"the toy has no attention {name!r}")
        return [ToyAttention(self.net.attention)]


class ToyAutoencoder:
    """An `Autoencoder`: the means of squares of pixels, of two frames as channels of one piece."""

    factor = FACTOR
    dtype = torch.float32

    def latents_shape(self, piece_count: int, size: Size) -> tuple[int, ...]:
        width, height = (side // FACTOR for side in size)
        return piece_count, 3 * FRAMES, height, width

    def size_of(self, shape: Sequence[int]) -> Size:
        return shape[-1] * FACTOR, shape[-2] * FACTOR

    def pieces(self, frame_count: int, scenes: Callable[[], Sequence[range]]) -> tuple[range, ...]:
        starts = range(0, frame_count, FRAMES)
        return tuple(range(start, min(start + FRAMES, frame_count)) for start in starts)

    def frame_count(self, piece_count: int) -> int:
        return piece_count * FRAMES

    def encode(self, images: Tensor) -> Tensor:
        missing = -len(images) % FRAMES
        images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        return functional.avg_pool2d(images, FACTOR).unflatten(0, (-1, FRAMES)).flatten(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        frames = latents.unflatten(1, (FRAMES, 3)).flatten(0, 1).float()
        return functional.interpolate(frames, scale_factor=FACTOR, mode="bilinear").clamp(-1, 1)

    def encoder(self) -> Callable[[Tensor], Tensor]:
        return self.encode

    def decoder(self) -> Callable[[Tensor], Tensor]:
        return self.decode

    def use_tiles(self) -> None:
        raise NotImplementedError


class ToyModel:
    """A `Model` with random weights, the same in every process."""

    autoencoder = ToyAutoencoder()
    window: Window | None = None
    boundary: float | None = None
    layers = InjectionLayers(features=("mix",), attentions=("attention",), shared=("attention",))
    defaults = PnPOptions(steps=4, guidance_scale=3.0, noise_share=0.1)
    device = torch.device("cpu")
    dtype = latent_dtype = torch.float32
    default_size = (48, 32)
    multiple = 2 * FACTOR
    longest_side = 8192
    packing = 1
    reads_pictures = False
    known_words = None

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.net = ToyNet().eval()
        self.opened = ToyNetwork(self.net)

    @contextmanager
    def network(self, control: Control | None = None) -> Iterator[ToyNetwork]:
        yield self.opened

    def encode_texts(
        self, texts: Sequence[str], clip_skip: int = 0, *, weights: bool = False
    ) -> PromptEmbeddings:
        seeds = [torch.Generator().manual_seed(zlib.crc32(text.encode())) for text in texts]
        hidden = [torch.randn(TOKENS, WIDTH, generator=seed) for seed in seeds]
        return PromptEmbeddings(hidden=torch.stack(hidden))

    def check_embeddings(self, embeddings: PromptEmbeddings) -> PromptEmbeddings:
        return embeddings

    def with_image(
        self, embeddings: PromptEmbeddings, picture: Image.Image | None = None
    ) -> PromptEmbeddings:
        return embeddings

    def words_in(self, text: str) -> list[tuple[str, list[int]]]:
        return [(word, [number]) for number, word in enumerate(text.split())]

    def schedule(self, options: PnPOptions, size: Size) -> NoiseSchedule:
        """Return flow levels whose shift depends on the size, as in FLUX."""
        shift = 1 + size[0] * size[1] / 4096
        even = [1 - step / options.steps for step in range(options.steps + 1)]
        sigmas = [shift * u / (1 + (shift - 1) * u) for u in even]
        return flow_schedule(sigmas, parts=options.inversion_step_count // options.steps)

    def rescaled(self, guided: Tensor, prediction: Tensor) -> Tensor:
        return guided

    def check_options(self, options: PnPOptions) -> None:
        pass

    def check_control(self) -> None:
        raise InputError("the toy has no ControlNet")

    def identity(self, *, controlled: bool) -> dict[str, str]:
        return {"model": fingerprint.of_tensors(sorted(self.net.state_dict().items()))}

    def release(self) -> None:
        pass


def open_toy(settings: ModelSettings) -> ToyModel:
    """Load the toy, whatever the settings say: an `Opener`."""
    return ToyModel()
