"""Stable Diffusion 1.x, 2.x and XL as a `Model`."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import MAX_SIDE, ImageAutoencoder
from pnpvideo.models.device import exact_dtype, working_device
from pnpvideo.models.lora_layers import lora_layers as layers_of
from pnpvideo.models.model import Control, Size, Window
from pnpvideo.models.network import InjectionLayers
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import ARTICLES, PromptEmbeddings, check_shapes, encode_prompt
from pnpvideo.models.scheduler import check_scheduler
from pnpvideo.models.stable_diffusion.check_unet import IP_IMAGE_PROJ
from pnpvideo.models.stable_diffusion.controlnet import ControlledUNet
from pnpvideo.models.stable_diffusion.ip_adapter import embed_image, scales_of
from pnpvideo.models.stable_diffusion.schedule import make_schedule
from pnpvideo.models.stable_diffusion.text_cache import text_cache
from pnpvideo.models.stable_diffusion.unet import UNet, takes_guidance
from pnpvideo.models.turns import turn
from pnpvideo.models.uncompiled import uncompiled
from pnpvideo.options.method import PnPOptions
from pnpvideo.storage import fingerprint

_PARTS = (
    "unet",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "image_encoder",
    "controlnet",
)
"""The parts that one thread at a time may use, by diffusers' names."""


class StableDiffusion:
    """The `Model` of the components of a pipeline of diffusers.

    They are looked up at every use: users replace components, load LoRA into them and move them.
    """

    def __init__(self, parts: Any) -> None:
        """parts: has the components by diffusers' names, and `model_options` and `layers`."""
        self._parts = parts

    def turn(self) -> AbstractContextManager[None]:
        """Keep other threads from using the model, or another one with a part of it, within.

        All parts go together, as offloading one part moves others.
        """
        return turn(*(getattr(self._parts, name, None) for name in _PARTS))

    @property
    def autoencoder(self) -> ImageAutoencoder:
        return ImageAutoencoder(self._parts.vae, self.turn)

    @property
    def window(self) -> Window | None:
        return None

    @property
    def boundary(self) -> float | None:
        return None

    @property
    def layers(self) -> InjectionLayers:
        layers: InjectionLayers = self._parts.layers
        return layers

    @property
    def defaults(self) -> PnPOptions:
        options: PnPOptions = self._parts.model_options
        return options

    @property
    def known_words(self) -> KnownWords | None:
        known: KnownWords | None = self._parts.known_words
        return known

    @property
    def device(self) -> torch.device:
        return working_device(self._parts.unet)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self._parts.unet.dtype
        return dtype

    @property
    def latent_dtype(self) -> torch.dtype:
        return exact_dtype(self.dtype)

    @property
    def default_size(self) -> Size:
        side = self._parts.unet.config.sample_size * self.autoencoder.factor
        return side, side

    @property
    def multiple(self) -> int:
        return self.autoencoder.factor

    @property
    def longest_side(self) -> int:
        return MAX_SIDE

    @property
    def packing(self) -> int:
        return 1

    @property
    def reads_pictures(self) -> bool:
        return bool(self._parts.unet.config.encoder_hid_dim_type == IP_IMAGE_PROJ)

    @contextmanager
    def network(self, control: Control | None = None) -> Iterator[UNet]:
        """Open the UNet, with the ControlNet beside it if that has something to follow.

        Other threads wait for it until the context ends.
        """
        parts, factor = self._parts, self.autoencoder.factor
        with self.turn():
            network = UNet(parts.unet, factor)
            if control is not None:
                network = ControlledUNet(parts.unet, factor, parts.controlnet, control)
            with uncompiled(parts.unet, parts.controlnet), text_cache(network):
                yield network

    def encode_texts(
        self, texts: Sequence[str], clip_skip: int = 0, *, weights: bool = False
    ) -> PromptEmbeddings:
        """Embed texts with the one or two text encoders (see `encode_prompt`)."""
        parts = self._parts
        encoders = [(parts.tokenizer, parts.text_encoder)]
        if parts.text_encoder_2 is not None:
            encoders.append((parts.tokenizer_2, parts.text_encoder_2))
        with self.turn():
            embeddings = encode_prompt(
                texts,
                encoders,
                parts._execution_device,
                clip_skip=clip_skip,
                weights=weights,
                zeros_for_empty=parts.config.force_zeros_for_empty_prompt,
                convert=parts.maybe_convert_prompt,
            )
        return self._completed(embeddings)

    def check_embeddings(self, embeddings: PromptEmbeddings) -> PromptEmbeddings:
        """Return embeddings from outside as the UNet takes them.

        InputError if pooled embeddings are missing for an SDXL model, or given for another, or if
        they are of another width than the model's own.
        """
        if (embeddings.pooled is None) != (self._parts.text_encoder_2 is None):
            raise InputError("SDXL models need pooled embeddings too, and other models take none")
        check_shapes(embeddings, self.encode_texts([""]), any_length=True)
        return self._completed(embeddings.to(self._parts._execution_device, self.dtype))

    def with_image(
        self, embeddings: PromptEmbeddings, picture: Image.Image | None = None
    ) -> PromptEmbeddings:
        """Add the IP-Adapter's embedding of a picture, or of no picture, to each text."""
        if not self.reads_pictures:
            return embeddings
        with self.turn():
            return embeddings.with_image(embed_image(self._parts, picture))

    def _completed(self, embeddings: PromptEmbeddings) -> PromptEmbeddings:
        """Add what the UNet needs beside texts: no picture, and no guidance."""
        if takes_guidance(self._parts.unet):
            embeddings = embeddings.with_guidance(1.0)
        return self.with_image(embeddings)

    def words_in(self, text: str) -> list[tuple[str, list[int]]]:
        """Return each word of a text except articles, with the numbers of its tokens."""
        parts, tokenizer = self._parts, self._parts.tokenizer
        text = parts.maybe_convert_prompt(text, tokenizer)
        ids = tokenizer(text, truncation=True).input_ids
        words: list[tuple[str, list[int]]] = []
        ended = True
        for number, token in list(enumerate(tokenizer.convert_ids_to_tokens(ids)))[1:-1]:
            word, numbers = ("", []) if ended else words.pop()
            words.append((word + token.removesuffix("</w>"), [*numbers, number]))
            ended = token.endswith("</w>") or token in tokenizer.added_tokens_encoder
        return [(word, numbers) for word, numbers in words if word not in ARTICLES]

    def schedule(self, options: PnPOptions, size: Size) -> NoiseSchedule:
        """Return the noise levels of a run, which depend on no size for these models.

        InputError if the scheduler has none that this package can sample.
        """
        scheduler = self._parts.scheduler
        check_scheduler(scheduler)
        own = self._parts.own_timesteps
        return make_schedule(scheduler.config, options.steps, options.inversion_step_count, own)

    def rescaled(self, guided: Tensor, prediction: Tensor) -> Tensor:
        """Return guided predictions as they are."""
        return guided

    def check_options(self, options: PnPOptions) -> None:
        """Accept all options, which were made for this family."""

    def check_control(self) -> None:
        """Raise InputError unless there is a ControlNet in the UNet's precision."""
        controlnet = self._parts.controlnet
        if controlnet is None:
            raise InputError(
                "there is no ControlNet that follows control or control_image; give one "
                "(controlnet)"
            )
        if controlnet.dtype != self.dtype:
            raise InputError(
                f"the ControlNet is in {controlnet.dtype} and the UNet in {self.dtype}; "
                "load both in the same precision"
            )

    def identity(self, *, controlled: bool) -> dict[str, str]:
        """Return what an inversion depends on; batch size and device only change its rounding."""
        parts = self._parts
        modules = (parts.vae, parts.unet, parts.text_encoder, parts.text_encoder_2)
        model = fingerprint.of_modules(*modules)
        if self.reads_pictures:
            nothing = self.encode_texts([""]).image
            assert nothing is not None
            model += fingerprint.of_tensors([("image", nothing)])
        identity = {
            "model": fingerprint.of_values(
                model,
                parts.config.force_zeros_for_empty_prompt,
                *((layer.active_adapters, layer.scaling) for layer in lora_layers(parts)),
                *scales_of(parts.unet),
                # Which of the vectors in the text encoder belongs to which word.
                *own_words(parts.tokenizer),
            )
        }
        if controlled:
            identity["controlnet"] = fingerprint.of_modules(parts.controlnet)
        return identity

    def release(self) -> None:
        """Move offloaded components back to the computer's memory."""
        with self.turn():
            self._parts.maybe_free_model_hooks()


def own_words(tokenizer: Any) -> list[tuple[int, str]]:
    """Return the words of textual inversions, with the numbers of their tokens."""
    added = tokenizer.added_tokens_decoder.items()
    return [(number, token.content) for number, token in added if not token.special]


def lora_layers(parts: Any) -> list[Any]:
    """Return the layers with LoRA weights that are loaded and not fused."""
    return layers_of((parts.unet, parts.text_encoder, parts.text_encoder_2))


@contextmanager
def scaled_loras(parts: Any, scale: float | None) -> Iterator[None]:
    """Scale the loaded LoRA layers within. None: leave them as they are."""
    layers = lora_layers(parts)
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer in layers:
            layer.scale_layer(1.0 if scale is None else scale)
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)
