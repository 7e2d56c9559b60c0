"""Wan 2.1 and 2.2, text to video (Wan Team 2025, arXiv 2503.20314)."""

import math
from dataclasses import dataclass
from typing import Any

from diffusers import UniPCMultistepScheduler
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor

from pnpvideo.models.flow.family import (
    AttendsTo,
    Attention,
    Experts,
    Family,
    Grid,
    Place,
    Turn,
    module_of,
    timesteps_of,
)
from pnpvideo.models.model import Window
from pnpvideo.models.noise_schedule import NoiseSchedule, flow_schedule
from pnpvideo.models.prompt import ARTICLES, PromptEmbeddings
from pnpvideo.models.video_autoencoder import FRAMES, VideoAutoencoder
from pnpvideo.options.method import PnPOptions

_MODULES = {"q": "attn1.to_q", "k": "attn1.to_k", "v": "attn1.to_v", "f": "ffn"}
_ATTENTION: dict[AttendsTo, str] = {"picture": "attn1", "text": "attn2"}
_TOKENS = 512
"""The tokens that are read of a text, as in diffusers' pipeline."""
_NEW_WORD = "\u2581"
"""The mark at the start of a token that begins a word."""
_SIDES = {8: 640, 16: 960}
"""By the pixels that make a latent: the side of a square of as many pixels as the pictures that the
models were trained on, 832 x 480 and 1280 x 704."""
_UNIPC = {
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "final_sigmas_type": "zero",
    "use_dynamic_shifting": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
}
"""The settings of a UniPCMultistepScheduler whose levels are those of a flow, from 1 to 0."""
_FEW_STEPS = ("fastwan", "causvid", "lightx2v", "self-forcing", "selfforcing", "distill")
"""More words in the names of models that were distilled to few steps."""


@dataclass(frozen=True, kw_only=True)
class Wan(Family):
    """Self-attention over all tokens of some latent frames, and cross-attention to the text.

    Wan 2.2 A14B has two transformers, for high and for low noise. per_token: whether the network is
    given a timestep for each token, as Wan 2.2 TI2V-5B is.
    """

    name = "Wan"
    encoders = ("text_encoder",)
    transformers = ("transformer", "transformer_2")
    transformer = "WanTransformer3DModel"
    stacks = ("blocks",)
    autoencoders = ("AutoencoderKLWan",)
    schedulers = ("UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler")
    # It was trained on 81 frames, which are 21 latents.
    window = Window(length=21, stride=16)

    per_token: bool = False

    @property
    def options(self) -> PnPOptions:
        # The steps are UniEdit-Flow's for Wan, whose method is the default without known blocks.
        return PnPOptions(steps=25, guidance_scale=5.0, tau_f=0.0, tau_a=0.2, blend_radius=0)

    def of(self, pipe: Any) -> "Wan":
        return Wan(per_token=bool(pipe.config.get("expand_timesteps")))

    def experts(self, pipe: Any) -> Experts:
        ratio = pipe.config.get("boundary_ratio")
        scale = pipe.scheduler.config.num_train_timesteps
        return Experts(
            first=pipe.transformer,
            second=getattr(pipe, "transformer_2", None),
            boundary=ratio * scale if isinstance(ratio, int | float) else None,
        )

    def autoencoder(self, vae: Any, turn: Turn) -> VideoAutoencoder:
        return VideoAutoencoder(vae, turn)

    def encode(self, pipe: Any, text: str) -> PromptEmbeddings:
        # Zeros follow the text, and count as tokens.
        hidden, _ = pipe.encode_prompt(
            [text], do_classifier_free_guidance=False, max_sequence_length=_TOKENS
        )
        return PromptEmbeddings(hidden=hidden)

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: float, texts: PromptEmbeddings
    ) -> Tensor:
        told = timesteps_of(latents, timestep)
        if self.per_token:
            sides = zip(latents.shape[2:], transformer.config.patch_size, strict=True)
            tokens = math.prod(side // patch for side, patch in sides)
            told = told[:, None].expand(-1, tokens)
        output: Tensor = transformer(
            hidden_states=latents,
            timestep=told,
            encoder_hidden_states=texts.hidden,
            return_dict=False,
        )[0]
        return output

    def sigmas(self, scheduler: Any, steps: int, grid: Grid) -> tuple[list[float] | None, Any]:
        return None, None

    def schedule(self, scheduler: Any, steps: int, grid: Grid, parts: int = 1) -> NoiseSchedule:
        own = self._set(scheduler, steps, grid)
        sigmas, scale = own.sigmas.double().tolist(), scheduler.config.num_train_timesteps
        known = dict(zip(sigmas, own.timesteps.double().tolist(), strict=False))
        is_whole = isinstance(scheduler, UniPCMultistepScheduler)  # It cuts off its timesteps.

        def timestep_of(sigma: float) -> float:
            timestep = known.get(sigma, scale * sigma)
            return float(int(timestep)) if is_whole else timestep

        return flow_schedule(sigmas, timestep_of, parts=parts)

    def unusable(self, scheduler: Any) -> str | None:
        if isinstance(scheduler, UniPCMultistepScheduler):
            for name, wanted in _UNIPC.items():
                if scheduler.config.get(name) != wanted:
                    return (
                        f"has {name} {scheduler.config.get(name)!r:.20}, and {self.name} needs "
                        f"{wanted!r}; set it in scheduler_config.json"
                    )
        return super().unusable(scheduler)

    def place(self, transformer: Any, block: str, kind: str) -> Place | None:
        if not block.startswith("blocks."):
            return None
        module = module_of(transformer, f"{block}.{_MODULES[kind]}")
        return None if module is None else Place(module=module)

    def attention(self, transformer: Any, block: str, to: AttendsTo) -> Attention | None:
        layer = module_of(transformer, f"{block}.{_ATTENTION[to]}")
        return Attention(query=layer.norm_q, key=layer.norm_k, heads=layer.heads)

    def words_in(self, pipe: Any, text: str) -> list[tuple[str, list[int]]] | None:
        tokenizer = pipe.tokenizer
        ids = tokenizer(prompt_clean(text), truncation=True, max_length=_TOKENS).input_ids
        words: list[tuple[str, list[int]]] = []
        for number, token in enumerate(tokenizer.convert_ids_to_tokens(ids)):
            if token.startswith(_NEW_WORD) or not words:
                words.append(("", []))
            letters = token.removeprefix(_NEW_WORD)
            # Neither marks at the end nor punctuation are words.
            if token not in tokenizer.all_special_tokens and any(map(str.isalnum, letters)):
                word, numbers = words[-1]
                words[-1] = word + letters, [*numbers, number]
        return [(word, numbers) for word, numbers in words if word and word not in ARTICLES]

    def pixels_per_token(self, pipe: Any) -> int:
        patch = self.experts(pipe).present[0].config.patch_size[-1]
        return int(patch) * int(pipe.vae_scale_factor_spatial)

    def side(self, pipe: Any) -> int:
        factor = int(pipe.vae_scale_factor_spatial)
        multiple = self.pixels_per_token(pipe)
        side = _SIDES.get(factor, _SIDES[8])
        return max(multiple, side // multiple * multiple)

    def longest_side(self, transformer: Any) -> int | None:
        longest: int | None = transformer.config.rope_max_seq_len
        return longest

    def sizes(self, pipe: Any) -> list[tuple[str, int, int]]:
        width, channels = pipe.text_encoder.config.d_model, pipe.vae.config.z_dim
        return [
            size
            for one in self.experts(pipe).present
            for size in (
                ("the autoencoder", channels, one.config.in_channels),
                ("the text encoder", width, one.config.text_dim),
            )
        ]

    def misfit(self, pipe: Any) -> str | None:
        ratio, present = pipe.config.get("boundary_ratio"), self.experts(pipe).present
        vae = pipe.vae.config
        factor = 2 ** (len(vae.dim_mult) - 1) * (vae.patch_size or 1)
        if ratio is not None and not isinstance(ratio, int | float):
            return f"its model_index.json says that boundary_ratio is {ratio!r:.20}; give a number"
        if len(present) == 2 and ratio is None:
            return "it has two transformers, and its model_index.json has no boundary_ratio"
        if len(present) == 2 and _settings(present[0]) != _settings(present[1]):
            return "its two transformers have different configurations"
        if (2 ** sum(map(bool, vae.temperal_downsample)), vae.scale_factor_temporal) != (
            FRAMES,
        ) * 2:
            return f"its autoencoder does not make one latent frame of {FRAMES} frames"
        if vae.scale_factor_spatial != factor:
            return (
                f"{factor} pixels along a side make one latent of its autoencoder, whose "
                f"scale_factor_spatial is {vae.scale_factor_spatial}"
            )
        for one in present:
            config = one.config
            frames, height, width = config.patch_size
            if frames != 1 or height != width:
                return f"its transformer has tokens of {frames} x {height} x {width} latents"
            if config.image_dim is not None or config.added_kv_proj_dim is not None:
                return "its transformer reads a first frame beside the prompt"
            if config.out_channels not in (None, config.in_channels):
                return (
                    f"its transformer takes {config.in_channels} channels and gives "
                    f"{config.out_channels}"
                )
        return super().misfit(pipe)

    def is_distilled(self, pipe: Any) -> bool:
        name = str(pipe.name_or_path).lower()
        return super().is_distilled(pipe) or any(word in name for word in _FEW_STEPS)


def _settings(transformer: Any) -> dict[str, Any]:
    """Return a transformer's configuration without where it is from."""
    return {name: value for name, value in transformer.config.items() if not name.startswith("_")}
