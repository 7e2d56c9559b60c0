"""The components of a Stable Diffusion pipeline, and all that diffusers' users do with them."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionMixin,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders import (
    IPAdapterMixin,
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
    TextualInversionLoaderMixin,
)

from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.errors import InputError
from pnpvideo.loading.hub import local_checkpoint
from pnpvideo.loading.ip_adapter import find_encoder, load_image_encoder, read_ip_adapter
from pnpvideo.loading.load import load_model
from pnpvideo.loading.load_controlnet import check_named, load_controlnet
from pnpvideo.loading.lora import read_loadable
from pnpvideo.loading.recommended import Recommended, read_recommended, write_recommended
from pnpvideo.models.autoencoder import ImageAutoencoder
from pnpvideo.models.device import default_device, default_dtype
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.scheduler import check_scheduler
from pnpvideo.models.stable_diffusion.check_unet import check_unet
from pnpvideo.models.stable_diffusion.controlnet import check_controlnet
from pnpvideo.models.stable_diffusion.ip_adapter import check_ip_adapter
from pnpvideo.models.stable_diffusion.model import (
    StableDiffusion,
    lora_layers,
    own_words,
    scaled_loras,
)
from pnpvideo.models.stable_diffusion.unet import default_layers
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.values import EMBEDDED_MODEL

_log = logging.getLogger(__name__)


class Components(
    DiffusionPipeline,
    StableDiffusionMixin,
    # Of the two for LoRA, XL's does the work: its second text encoder may be missing.
    StableDiffusionXLLoraLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    TextualInversionLoaderMixin,
    IPAdapterMixin,
):
    """The components of a Stable Diffusion 1.x, 2.x or XL model, by the names that diffusers gives.

    Of the scheduler only the noise levels and timesteps are used; the steps between them are
    DDIM's, which the inversion undoes. The safety checker of other pipelines is kept for these and
    not used. `model_options` and `layers` hold what the model's `pnp.json` says; without one they
    are the paper's. `model` is what the stages are given.
    """

    _optional_components = (
        "controlnet",
        "text_encoder_2",
        "tokenizer_2",
        "safety_checker",
        "feature_extractor",
        "image_encoder",
    )
    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"

    # Properties of the call under way, or of the last one.
    guidance_scale = StableDiffusionPipeline.guidance_scale
    guidance_rescale = StableDiffusionPipeline.guidance_rescale
    do_classifier_free_guidance = StableDiffusionPipeline.do_classifier_free_guidance
    clip_skip = StableDiffusionPipeline.clip_skip
    cross_attention_kwargs = StableDiffusionPipeline.cross_attention_kwargs
    num_timesteps = StableDiffusionPipeline.num_timesteps
    interrupt = StableDiffusionPipeline.interrupt
    own_timesteps: Sequence[int] | None = None  # Of the call under way alone.

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: Any,
        tokenizer: Any,
        unet: UNet2DConditionModel,
        scheduler: Any,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
        safety_checker: Any = None,
        feature_extractor: Any = None,
        image_encoder: Any = None,
        controlnet: ControlNetModel | None = None,
        force_zeros_for_empty_prompt: bool = False,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
            image_encoder=image_encoder,
            controlnet=controlnet,
        )
        self.register_to_config(force_zeros_for_empty_prompt=force_zeros_for_empty_prompt)
        if text_encoder is None:
            raise InputError(
                "the model has no first text encoder; give a whole model, not a refiner"
            )
        check_scheduler(scheduler)
        check_unet(
            unet,
            vae,
            two_encoders=text_encoder_2 is not None,
            image_encoder=image_encoder is not None,
        )
        if controlnet is not None:
            check_controlnet(controlnet, unet, ImageAutoencoder(vae).factor)
        if safety_checker is not None:
            _log.warning("the safety checker is not used: nothing checks what results show")
        self.model_options = PnPOptions()
        self.known_words: KnownWords | None = None
        self.layers = default_layers(unet)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "scheduler" and name in self.__dict__:
            _check_scheduler(value)
        super().__setattr__(name, value)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = EMBEDDED_MODEL,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        loras: Sequence[str | Path] = (),
        embeddings: Sequence[str | Path] = (),
        controlnet: ControlNetModel | str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Load "embedded", a diffusers folder, a hub id or a `.safetensors` checkpoint.

        Args:
            model: Its name, its folder or its file.
            dtype: By default what suits this machine's best device; or torch_dtype, its older name.
            loras: Files or folders to merge, each perhaps with a weight: "style.safetensors:0.8".
            embeddings: Textual inversions, each perhaps with its word: "toy.safetensors:<toy>".
            controlnet: A loaded one, or a folder, a hub id or a `.safetensors` file of one.
            options: Go to diffusers.

        Returns:
            The pipeline. Raises InputError or RunError (see `load_model`).
        """
        dtype = dtype or torch_dtype or default_dtype(default_device())
        if not isinstance(dtype, torch.dtype):
            raise InputError(f"dtype is {dtype!r}; give one such as torch.float16")
        if options.get("scheduler") is not None:
            _check_scheduler(options["scheduler"])
        if options.get("use_safetensors") is False:
            raise InputError(
                "use_safetensors is False, but other weights can hold code; leave it out"
            )
        if isinstance(controlnet, str | Path):
            check_named(controlnet)  # Before the model's weights are loaded.
        loaded = load_model(model, dtype=dtype, loras=loras, embeddings=embeddings, **options)
        if isinstance(controlnet, str | Path):
            unet = loaded.components["unet"]
            controlnet = load_controlnet(controlnet, unet, dtype, options)
        pipeline = cls(**loaded.components, controlnet=controlnet)
        pipeline._use(loaded.recommended)
        pipeline.known_words = loaded.known_words
        return pipeline

    @classmethod
    def from_single_file(cls, checkpoint: str | Path, **options: Any) -> Self:
        """Load a `.safetensors` file, or the hub's link to one, as `from_pretrained` does.

        Args:
            checkpoint: The file, or its link.
            options: Those of `from_pretrained`, and config: a diffusers folder with the
                configuration of its kind of model; by default the hub's.
        """
        return cls.from_pretrained(local_checkpoint(checkpoint, options), **options)

    @classmethod
    def from_pipe(cls, pipeline: Any, **options: Any) -> Self:
        """Make a pipeline of another one's components, with its options and layers."""
        made: Self = super().from_pipe(pipeline, **options)
        if isinstance(pipeline, Components):
            made._use(Recommended(options=pipeline.model_options, layers=pipeline.layers))
            made.known_words = pipeline.known_words
        elif pipeline.name_or_path is not None:
            made._use(read_recommended(Path(pipeline.name_or_path)))
        return made

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Write a folder that diffusers loads as the model's own pipeline, and `pnp.json` in it.

        A ControlNet is not included; it has its own save_pretrained. InputError if a LoRA is
        loaded: the names of its layers fit no folder.
        """
        if lora_layers(self):
            raise InputError(
                "the pipeline has a LoRA loaded, and its folder would not load again; fuse it "
                "(fuse_lora, then unload_lora_weights) or unload it first"
            )
        large = self.text_encoder_2 is not None
        kind = StableDiffusionXLPipeline if large else StableDiffusionPipeline
        others = kind._get_signature_keys(kind)[0]
        parts = {name: part for name, part in self.components.items() if name in others}
        # What the other pipeline changes of its scheduler stays its own.
        parts["scheduler"] = type(self.scheduler).from_config(self.scheduler.config)
        if large:
            parts["force_zeros_for_empty_prompt"] = self.config.force_zeros_for_empty_prompt
        else:
            parts["requires_safety_checker"] = self.safety_checker is not None
        kind(**parts).save_pretrained(save_directory, **options)
        own = Recommended(options=self.model_options, layers=self.layers)
        write_recommended(Path(save_directory), own)
        if self.known_words is not None:
            self.known_words.save(Path(save_directory))

    def encode_prompt(
        self, prompt: Any, *others: Any, clip_skip: int | None = None, **options: Any
    ) -> Any:
        """Encode prompts as StableDiffusionPipeline does, or StableDiffusionXLPipeline for XL."""
        if self.text_encoder_2 is not None:
            options["clip_skip"] = clip_skip
            return StableDiffusionXLPipeline.encode_prompt(self, prompt, *others, **options)
        if clip_skip is not None and prompt is not None:
            # diffusers looks for the encoder's last norm where transformers 5 has it no longer.
            texts = [prompt] if isinstance(prompt, str) else prompt
            with scaled_loras(self, options.get("lora_scale")):
                options["prompt_embeds"] = self.encode_texts(texts, clip_skip).hidden
        return StableDiffusionPipeline.encode_prompt(self, prompt, *others, **options)

    def encode_texts(
        self, texts: Sequence[str], clip_skip: int = 0, *, weights: bool = False
    ) -> PromptEmbeddings:
        """Embed texts with the model's one or two text encoders (see `Model.encode_texts`)."""
        return self.model.encode_texts(texts, clip_skip, weights=weights)

    def schedule(self, options: PnPOptions) -> NoiseSchedule:
        """Return the noise levels that a call with these options has."""
        return self.model.schedule(options, self.model.default_size)

    @property
    def model(self) -> StableDiffusion:
        """The model of these components, as the stages see it."""
        return StableDiffusion(self)

    def load_ip_adapter(
        self,
        given: str | Path,
        subfolder: str = "",
        weight_name: str | None = None,
        image_encoder_folder: str | Path | None = None,
        **how: Any,
    ) -> None:
        """Load one IP-Adapter as diffusers' pipelines do, from a folder or from a file.

        weight_name: of a `.safetensors` file in the folder and subfolder. image_encoder_folder: by
        default image_encoder beside the file. InputError if it does not fit the model.
        """
        if how:
            raise InputError(f"an IP-Adapter is read from files only; leave out {min(how)}")
        file = Path(given, subfolder, weight_name) if weight_name else Path(given)
        state = read_ip_adapter(file)
        encoder = load_image_encoder(find_encoder(file, image_encoder_folder), self.unet.dtype)
        check_ip_adapter(state, self.unet, encoder)
        self.register_modules(image_encoder=encoder.to(self.unet.device))
        super().load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)

    def load_lora_weights(self, given: Any, adapter_name: str | None = None, **how: Any) -> None:
        """Load a LoRA as diffusers' pipelines do. InputError for other kinds of files."""
        file = read_loadable(given, how.get("weight_name"))
        if file is not None and file.is_converted:
            given, how = file.state(), {k: v for k, v in how.items() if k != "weight_name"}
        super().load_lora_weights(given, adapter_name, **how)
        self.known_words = None  # It may teach the model more.

    def load_textual_inversion(self, given: Any, *others: Any, **how: Any) -> None:
        """Load a textual inversion as diffusers does, but only from safetensors, without code."""
        if how.get("use_safetensors") is False or _names_other_file(given, how):
            raise InputError("a textual inversion is read from a .safetensors file only")
        super().load_textual_inversion(given, *others, **{**how, "use_safetensors": True})
        self.known_words = None  # It teaches the model more.

    def maybe_convert_prompt(self, prompt: Any, tokenizer: Any) -> Any:
        """Convert a prompt as diffusers does, also if a textual inversion's word is in capitals."""
        texts = prompt if isinstance(prompt, list) else [prompt]
        for _, word in own_words(self.tokenizer):
            spelled = word.replace("\\", r"\\")
            texts = [re.sub(re.escape(word), spelled, text, flags=re.I) for text in texts]
        converted = super().maybe_convert_prompt(texts, tokenizer)
        return converted if isinstance(prompt, list) else converted[0]

    # diffusers up to 0.40 has these four; later ones leave them to the autoencoder.

    def enable_vae_slicing(self) -> None:
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        self.model.autoencoder.use_tiles()

    def disable_vae_tiling(self) -> None:
        self.vae.disable_tiling()

    def _use(self, own: Recommended) -> None:
        self.model_options, self.layers = own.options, own.layers or self.layers


def _names_other_file(given: Any, how: dict[str, Any]) -> bool:
    """Return whether a file is named that is not a safetensors file."""
    names = [how.get("weight_name"), *(given if isinstance(given, list) else [given])]
    paths = [Path(name) for name in names if isinstance(name, str | Path)]
    return any(path.suffix != ".safetensors" and path.is_file() for path in paths) or (
        how.get("weight_name") is not None and not str(how["weight_name"]).endswith(".safetensors")
    )


def _check_scheduler(scheduler: Any) -> None:
    check_scheduler(scheduler)
    if not isinstance(scheduler, DDIMScheduler):
        raise InputError(
            f"a {type(scheduler).__name__} is not a DDIMScheduler, whose steps the inversion "
            "undoes; give DDIMScheduler.from_config(its config)"
        )
