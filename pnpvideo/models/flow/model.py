"""Flow-matching transformers as a `Model`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device
from PIL import Image
from torch import Tensor

from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import MAX_SIDE
from pnpvideo.models.device import exact_dtype
from pnpvideo.models.failures import check_finite
from pnpvideo.models.flow.family import Experts, Family, Grid
from pnpvideo.models.flow.network import FlowNetwork, place_of
from pnpvideo.models.flow.text_cache import TextCache
from pnpvideo.models.lora_layers import lora_layers
from pnpvideo.models.model import Autoencoder, Control, Size, Window
from pnpvideo.models.network import InjectionLayers
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings, check_shapes, concatenate
from pnpvideo.models.turns import turn
from pnpvideo.models.uncompiled import uncompiled
from pnpvideo.options.method import PnPOptions
from pnpvideo.storage import fingerprint

_log = logging.getLogger(__name__)


class FlowModel:
    """The `Model` of a pipeline of diffusers for a flow-matching transformer.

    The pipeline's components are looked up at every use, as users replace and move them.
    options, blocks: what the model's pnp.json says; by default its family's (`default_options`).
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        *,
        options: PnPOptions | None = None,
        blocks: tuple[tuple[str, str], ...] | None = None,
    ) -> None:
        self.pipe, self.family = pipe, family.of(pipe)
        family = self.family
        has_blocks = bool(blocks or family.blocks(self.transformer))
        self.options = options or default_options(family, has_blocks=has_blocks)
        self.blocks = blocks
        self._texts = TextCache()

    def turn(self) -> AbstractContextManager[None]:
        """Keep other threads from using the model, or another one with a part of it, within."""
        return turn(*self._modules)

    @property
    def _modules(self) -> list[Any]:
        """The networks among the components: those that exist, in a fixed order."""
        family = self.family
        names = ("vae", *family.transformers, *family.encoders, *family.optional)
        return [getattr(self.pipe, name, None) for name in names]

    @property
    def experts(self) -> Experts:
        return self.family.experts(self.pipe)

    @property
    def transformer(self) -> Any:
        """The transformer, or the first of several, whose configurations are the same."""
        return self.experts.present[0]

    @property
    def autoencoder(self) -> Autoencoder:
        return self.family.autoencoder(self.pipe.vae, self.turn)

    @property
    def window(self) -> Window | None:
        return self.family.window

    @property
    def boundary(self) -> float | None:
        experts = self.experts
        return experts.boundary if len(experts.present) == 2 else None

    @property
    def layers(self) -> InjectionLayers:
        blocks = self.blocks
        if blocks is None:
            blocks = tuple(self.family.blocks(self.transformer).items())
        return InjectionLayers(features=(), attentions=(), shared=(), blocks=blocks)

    @contextmanager
    def injecting(self, blocks: tuple[tuple[str, str], ...]) -> Iterator[None]:
        """Inject into these blocks in place of the model's own, within the context."""
        own, self.blocks = self.blocks, blocks
        try:
            yield
        finally:
            self.blocks = own

    @property
    def defaults(self) -> PnPOptions:
        return self.options

    @property
    def known_words(self) -> KnownWords | None:
        return None

    @property
    def device(self) -> torch.device:
        device: torch.device = get_module_execution_device(self.transformer)
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    @property
    def latent_dtype(self) -> torch.dtype:
        return exact_dtype(self.dtype)

    @property
    def default_size(self) -> Size:
        side = self.family.side(self.pipe)
        return side, side

    @property
    def multiple(self) -> int:
        return self.family.pixels_per_token(self.pipe)

    @property
    def longest_side(self) -> int:
        tokens = self.family.longest_side(self.transformer)
        return MAX_SIDE if tokens is None else min(MAX_SIDE, tokens * self.multiple)

    @property
    def packing(self) -> int:
        return self.family.packing

    @property
    def reads_pictures(self) -> bool:
        return False

    @contextmanager
    def network(self, control: Control | None = None) -> Iterator[FlowNetwork]:
        """Open the transformer. Other threads wait for it until the context ends."""
        with self.turn(), uncompiled(*self.experts.present):
            per_token = self.multiple // self.autoencoder.factor
            yield FlowNetwork(self.experts, self.family, per_token)

    @torch.no_grad()
    def encode_texts(
        self, texts: Sequence[str], clip_skip: int = 0, *, weights: bool = False
    ) -> PromptEmbeddings:
        """Embed texts one by one, as each comes out otherwise if others are beside it.

        RunError if they are not finite.
        """
        with self.turn():
            parts = [self._texts.of(text, self.pipe, self._encode) for text in texts]
        return self._completed(concatenate(parts))

    def _encode(self, text: str) -> PromptEmbeddings:
        embedded = self.family.encode(self.pipe, text)
        for tensor in (embedded.hidden, embedded.pooled):
            if tensor is not None:
                check_finite(tensor, "text encoder", tensor.dtype)
        return embedded

    def check_embeddings(self, embeddings: PromptEmbeddings) -> PromptEmbeddings:
        """Return embeddings from outside as the transformer takes them.

        InputError unless they have the shape of the model's own.
        """
        own = self.encode_texts([""])
        check_shapes(embeddings, own, any_length=own.lengths is not None)
        if (embeddings.pooled is None) != (own.pooled is None):
            raise InputError(
                f"{self.family.name} needs pooled embeddings too"
                if embeddings.pooled is None
                else f"{self.family.name} takes no pooled embeddings; leave them out"
            )
        moved = embeddings.to(own.hidden.device, own.hidden.dtype)
        if own.lengths is not None:
            moved = moved.with_lengths((moved.hidden.shape[1],) * len(moved))
        return self._completed(moved)

    def _completed(self, embeddings: PromptEmbeddings) -> PromptEmbeddings:
        """Add no guidance, if the transformer takes the guidance scale as an input."""
        if self.family.takes_guidance(self.transformer):
            return embeddings.with_guidance(1.0)
        return embeddings

    def with_image(
        self, embeddings: PromptEmbeddings, picture: Image.Image | None = None
    ) -> PromptEmbeddings:
        return embeddings

    def words_in(self, text: str) -> list[tuple[str, list[int]]]:
        """Return each word of a text except articles, with the numbers of its tokens.

        InputError for a family without cross-attention.
        """
        words = self.family.words_in(self.pipe, text)
        if words is None:
            raise InputError(
                "finding what a text names (mask_from_prompt) reads cross-attention, and "
                f"{self.family.name} has none; give mask, a picture that is white where the "
                "source is edited"
            )
        return words

    def schedule(self, options: PnPOptions, size: Size) -> NoiseSchedule:
        """Return the noise levels of a run, as the model's scheduler makes them."""
        grid = self._grid(size)
        longest = self.family.longest_side(self.transformer)
        if longest is not None and max(grid) > longest:
            raise InputError(
                f"the picture is {max(grid)} tokens long, and this model knows the positions of "
                f"{longest}; give a smaller --size"
            )
        parts = options.inversion_step_count // options.steps
        return self.family.schedule(self.pipe.scheduler, options.steps, grid, parts)

    def _grid(self, size: Size) -> Grid:
        width, height = (side // self.multiple for side in size)
        return height, width

    def rescaled(self, guided: Tensor, prediction: Tensor) -> Tensor:
        """Return guided predictions (..., c, h, w) as the family's pipeline scales them."""
        return self.family.rescaled(guided, prediction)

    def check_options(self, options: PnPOptions) -> None:
        """Raise InputError for options that only models with a UNet can follow."""
        for is_given, reason in (
            (
                options.attention_sharing != "none",
                "attention_sharing is for models with a UNet; leave it out, and give blend_radius "
                "against flicker",
            ),
            (options.clip_skip > 0, "clip_skip is for models with a UNet; leave it out"),
            (
                options.prompt_weights,
                "prompt_weights is for models with a UNet; say in words what matters",
            ),
        ):
            if is_given:
                raise InputError(f"this model is {self.family.name}, and {reason}")
        if options.injects and max(options.thresholds) > 0:
            self._check_blocks()

    def _check_blocks(self) -> None:
        """Raise InputError unless there are blocks to inject into, and a network that lets us."""
        blocks = self.layers.blocks
        if not blocks:
            raise InputError(
                f"nobody has published which blocks of this {self.family.name} to inject into; "
                "measure them with 'pnpvideo blocks', name them in its pnp.json, as in "
                f'{{"blocks": {{"{self.family.stacks[0]}.0": "kv"}}}}, or give another method, '
                "such as uniedit"
            )
        for transformer in self.experts.present:
            self._check_network(transformer, blocks)

    def _check_network(self, transformer: Any, blocks: Sequence[tuple[str, str]]) -> None:
        """Raise InputError unless a transformer has these blocks, and lets us inject into them."""
        for block, kinds in blocks:
            for kind in kinds:
                place_of(self.family, transformer, block, kind)
        modules = transformer.modules()
        if any(getattr(module, "fused_projections", False) for module in modules):
            raise InputError(
                "the projections of this model are fused, which leaves no queries, keys and "
                "values to inject; call unfuse_qkv_projections()"
            )
        if getattr(transformer, "is_cache_enabled", False):
            raise InputError(
                "the transformer has a cache, which skips blocks that the method injects into; "
                "call disable_cache()"
            )

    def check_control(self) -> None:
        raise InputError(
            f"{self.family.name} has no ControlNet here; leave out control and control_image: its "
            "injection keeps the layout"
        )

    def identity(self, *, controlled: bool) -> dict[str, str]:
        """Return what an inversion depends on; batch size and device only change its rounding."""
        model = fingerprint.of_modules(*self._modules)
        loras = lora_layers(self._modules)
        active = ((layer.active_adapters, layer.scaling) for layer in loras)
        boundary = self.experts.boundary
        more = () if boundary is None else (boundary,)
        return {"model": fingerprint.of_values(model, self.family.name, *more, *active)}

    def release(self) -> None:
        """Move offloaded components back to the computer's memory."""
        with self.turn():
            self.pipe.maybe_free_model_hooks()


def default_options(family: Family, *, has_blocks: bool) -> PnPOptions:
    """Return the options of a model whose own file says nothing.

    has_blocks: whether it is known which blocks to inject into; if not, another method is used.
    """
    options = family.options.override({"solver": "lookahead", "exact_source": True})
    if has_blocks:
        return options
    # The guidance scale is then UniEdit-Flow's omega, of which 5 is the published value.
    return options.override({"method": "uniedit", "guidance_scale": 5.0})
