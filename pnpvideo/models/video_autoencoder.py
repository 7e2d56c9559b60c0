"""Encodes scenes to latent frames and back, for Wan's autoencoder in diffusers.

It is causal: a latent frame depends only on the frames up to its own, so a scene of any length goes
through it a few frames at a time. What each convolution has to remember of earlier frames is kept
between calls.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from torch import Tensor

from pnpvideo.models.autoencoder import LatentGrid
from pnpvideo.models.device import working_device
from pnpvideo.models.failures import check_finite

FRAMES = 4
"""The frames of each latent frame of a scene but the first, which has one."""

Memory = list[Any]
"""The earlier frames that each causal convolution remembers: None at the start of a scene."""


class VideoAutoencoder(LatentGrid):
    """The `Autoencoder` of diffusers' `AutoencoderKLWan`: a piece is a latent frame of a scene.

    factor: 8, or 16 for Wan 2.2's smaller model.
    """

    def __init__(
        self, vae: Any, turn: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        """turn: keeps other threads from using the model within its context."""
        super().__init__(vae, turn, int(vae.config.scale_factor_spatial), vae.config.z_dim)

    def pieces(self, frame_count: int, scenes: Callable[[], Sequence[range]]) -> tuple[range, ...]:
        """Return the frames of each piece: of a scene 1, then 4 each; its last may have fewer."""
        return tuple(
            range(start, end)
            for scene in scenes()
            for start, end in pairwise(
                [scene.start, *range(scene.start + 1, scene.stop, FRAMES), scene.stop]
            )
        )

    def frame_count(self, piece_count: int) -> int:
        """Return the number of frames in so many full pieces of one scene."""
        return max(0, 1 + FRAMES * (piece_count - 1))

    def encoder(self) -> Callable[[Tensor], Tensor]:
        """Return a function that encodes the frames of one scene, called with some at a time.

        It takes the frames of whole pieces in order, (n, 3, height, width), -1 to 1, and returns
        their normalised latents (pieces, c, h, w): the mean of the autoencoder's distribution, as
        inversion must not start from added noise. Only the last piece may have fewer frames than 4:
        its last frame is repeated. RunError if the latents are not finite.
        """
        return _Encoder(self)

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """Return a function that decodes the latents of one scene, called with some at a time.

        It takes latents (pieces, c, h, w) in order and returns float32 frames (n, 3, height,
        width), -1 to 1: one for the scene's first piece and 4 for each other. RunError if they are
        not finite.
        """
        return _Decoder(self)

    def encode(self, images: Tensor) -> Tensor:
        """Encode the frames of a whole scene (see `encoder`)."""
        return self.encoder()(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the latents of a whole scene (see `decoder`)."""
        return self.decoder()(latents)

    def use_tiles(self) -> None:
        """Encode and decode in overlapping tiles from now on, which take less memory."""
        self.vae.enable_tiling()

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the deviation of each channel, for latents (pieces, c, h, w)."""
        config = self.vae.config
        mean, deviation = (
            torch.tensor(values).to(like)[:, None, None]
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, deviation

    @property
    def patch(self) -> int:
        """The number of pixels along a side that are moved into channels before all else."""
        return self.vae.config.patch_size or 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep other threads from using the autoencoder within, and move it to its device.

        If it is offloaded, its own `encode` and `decode` would move it, and its parts do not.
        """
        with self.turn():
            hook = getattr(self.vae, "_hf_hook", None)
            if hook is not None:
                hook.pre_forward(self.vae)
            yield


class _Tiles:
    """A part of an autoencoder that works on the tiles of a scene's frames, each with its memory.

    compute: takes (1, c, n, h, w) and a tile's memory. convolutions: at least as many as it has.
    Sizes and strides of tiles are (height, width), in the units of the input and of the output.
    Tiles are placed and blended as in diffusers.
    """

    def __init__(
        self,
        vae: Any,
        compute: Callable[[Tensor, Memory], Tensor],
        convolutions: int,
        given_units: int,
        resulting_units: int,
    ) -> None:
        """given_units, resulting_units: the pixels of diffusers' settings that make one unit."""
        self.vae, self.compute, self.convolutions = vae, compute, convolutions
        sizes = vae.tile_sample_min_height, vae.tile_sample_min_width
        strides = vae.tile_sample_stride_height, vae.tile_sample_stride_width
        self.size, self.stride = (
            [pixels // given_units for pixels in pair] for pair in (sizes, strides)
        )
        ends, self.shown = (
            [pixels // resulting_units for pixels in pair] for pair in (sizes, strides)
        )
        self.overlap = [end - shown for end, shown in zip(ends, self.shown, strict=True)]
        self.memories: dict[tuple[int, int], Memory] = {}

    def run(self, given: Tensor, *, as_one: bool) -> Tensor:
        """Return the output for the next frames of the scene. as_one: without cutting them."""
        if as_one:
            return self.compute(given, self._memory((0, 0)))
        tops, lefts = (
            range(0, side, stride)
            for side, stride in zip(given.shape[-2:], self.stride, strict=True)
        )
        above: list[Tensor] = []
        rows = []
        for top in tops:
            tiles = [self._tile(given, (top, left)) for left in lefts]
            for place, tile in enumerate(tiles):  # They are blended in place.
                if above:
                    self.vae.blend_v(above[place], tile, self.overlap[0])
                if place:
                    self.vae.blend_h(tiles[place - 1], tile, self.overlap[1])
            above = tiles
            height, width = self.shown
            rows.append(torch.cat([tile[..., :height, :width] for tile in tiles], dim=-1))
        return torch.cat(rows, dim=-2)

    def _tile(self, given: Tensor, place: tuple[int, int]) -> Tensor:
        """Return the output of one tile. Its memory leaves the device while others are computed."""
        (top, left), (height, width), memory = place, self.size, self._memory(place)
        memory[:] = [_moved(entry, given.device) for entry in memory]
        output = self.compute(given[..., top : top + height, left : left + width], memory)
        memory[:] = [_moved(entry, torch.device("cpu")) for entry in memory]
        return output

    def _memory(self, place: tuple[int, int]) -> Memory:
        return self.memories.setdefault(place, [None] * self.convolutions)


def _moved(entry: Any, device: torch.device) -> Any:
    return entry.to(device) if isinstance(entry, Tensor) else entry


class _Encoder:
    """The function that `VideoAutoencoder.encoder` returns."""

    def __init__(self, autoencoder: VideoAutoencoder) -> None:
        self.autoencoder, self.vae = autoencoder, autoencoder.vae
        # diffusers takes the sides of its tiles as they are, although pixels are in channels here.
        factor = autoencoder.factor // autoencoder.patch
        convolutions = sum(1 for _ in self.vae.encoder.modules())
        self._tiles = _Tiles(self.vae, self._compute, convolutions, 1, factor)
        self._uses_tiles: bool = self.vae.use_tiling
        self._has_begun = self._has_ended = False

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        autoencoder, vae = self.autoencoder, self.vae
        images = images.to(working_device(vae), vae.dtype)
        limits = (vae.tile_sample_min_height, vae.tile_sample_min_width)
        sides = zip(images.shape[-2:], limits, strict=True)
        as_one = not self._uses_tiles or all(side <= limit for side, limit in sides)
        with autoencoder.at_work():
            moments = [
                self._tiles.run(patchify(frames, autoencoder.patch), as_one=as_one)
                for frames in self._parts(images)
            ]
        mean = torch.cat(moments, dim=2)[0].chunk(2)[0].transpose(0, 1)
        shift, scale = autoencoder.statistics(mean)
        result = (mean - shift) / scale
        check_finite(result, "autoencoder", vae.dtype)
        return result

    def _parts(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the frames of each piece: (1, 3, n, height, width)."""
        while len(images):
            if self._has_ended:
                raise ValueError("only the last piece of a scene may have fewer frames")
            count = FRAMES if self._has_begun else 1
            part, images = images[:count], images[count:]
            missing = count - len(part)
            if missing:
                part = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
            self._has_begun, self._has_ended = True, missing > 0
            yield part.transpose(0, 1)[None]

    def _compute(self, frames: Tensor, memory: Memory) -> Tensor:
        encoded = self.vae.encoder(frames, feat_cache=memory, feat_idx=[0])
        moments: Tensor = self.vae.quant_conv(encoded)
        return moments


class _Decoder:
    """The function that `VideoAutoencoder.decoder` returns."""

    def __init__(self, autoencoder: VideoAutoencoder) -> None:
        self.autoencoder, self.vae = autoencoder, autoencoder.vae
        convolutions = sum(1 for _ in self.vae.decoder.modules())
        self._tiles = _Tiles(
            self.vae, self._compute, convolutions, autoencoder.factor, autoencoder.patch
        )
        self._uses_tiles: bool = self.vae.use_tiling

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        autoencoder, vae = self.autoencoder, self.vae
        shift, scale = autoencoder.statistics(latents)
        scaled = (latents * scale + shift).to(working_device(vae), vae.dtype)
        sides = zip(scaled.shape[-2:], self._tiles.size, strict=True)
        as_one = not self._uses_tiles or all(side <= limit for side, limit in sides)
        with autoencoder.at_work():
            parts = [
                self._tiles.run(latent.transpose(0, 1)[None], as_one=as_one)
                for latent in torch.split(scaled, 1)
            ]
        images: Tensor = unpatchify(torch.cat(parts, dim=2), autoencoder.patch)[0].transpose(0, 1)
        check_finite(images, "autoencoder", vae.dtype)
        return images.float().clamp(-1, 1)

    def _compute(self, latent: Tensor, memory: Memory) -> Tensor:
        frames: Tensor = self.vae.decoder(
            self.vae.post_quant_conv(latent),
            feat_cache=memory,
            feat_idx=[0],
            first_chunk=memory[0] is None,
        )
        return frames
