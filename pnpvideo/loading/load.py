"""Loading of a model's diffusers components: embedded, a folder, a hub id or one checkpoint."""

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from pnpvideo.catalogue.find_model import find_model
from pnpvideo.catalogue.known_words import KnownWords, read_known_words
from pnpvideo.catalogue.pipelines import FLOW, SUPPORTED
from pnpvideo.catalogue.short_names import short_names
from pnpvideo.errors import InputError
from pnpvideo.loading.checkpoint import read_checkpoint
from pnpvideo.loading.embedding import add_embedding
from pnpvideo.loading.hub import (
    HUB_OPTIONS,
    LOADING_ERRORS,
    find_variant,
    list_files,
    one_line,
    reach_hub,
    unreachable,
)
from pnpvideo.loading.merge_lora import merge_lora
from pnpvideo.loading.parts import (
    check_folder,
    check_no_missing_weights,
    check_scaling,
    check_tokenizers,
    load_text_encoder,
    loading_errors,
)
from pnpvideo.loading.pretrained import check_no_adapter
from pnpvideo.loading.recommended import Recommended, read_recommended
from pnpvideo.models.quiet import quiet_loading
from pnpvideo.models.scheduler import check_family, check_scheduler
from pnpvideo.options.paths import expanded
from pnpvideo.options.values import EMBEDDED_MODEL

_log = logging.getLogger(__name__)

_SUPPORTED_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny", "AsymmetricAutoencoderKL"),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": (),
}
"""Classes of the parts that every model has; an empty tuple allows any class."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A loaded model.

    components: the pipeline's parts by diffusers' names.
    recommended: the settings that the model's folder recommends. known_words: the words that it
    lists, unless the LoRA or textual inversions that are added teach the model more.
    """

    components: dict[str, Any]
    recommended: Recommended
    known_words: KnownWords | None


@quiet_loading()
def load_model(
    model: str | Path = EMBEDDED_MODEL,
    *,
    dtype: torch.dtype = torch.float32,
    loras: Sequence[str | Path] = (),
    embeddings: Sequence[str | Path] = (),
    config: str | Path | None = None,
    prediction_type: str | None = None,
    **options: Any,
) -> LoadedModel:
    """Load a Stable Diffusion 1.x, 2.x or XL model, from safetensors only.

    model: "embedded", a short name, a diffusers folder, a hub id, or a `.safetensors` checkpoint.
    loras: LoRA files or folders, merged into the weights (see `merge_lora`).
    embeddings: files of textual inversions, whose words are added (see `add_embedding`).
    config: for a checkpoint, a diffusers folder with the configuration, tokenizer and scheduler of
        its type of model (without weights); None: diffusers downloads it from the hub.
    prediction_type: the network's prediction, if its scheduler's configuration is wrong.
    options: passed on to diffusers.
    Raise InputError if there is no such model, RunError if the hub cannot be reached.
    """
    found = find_model(model)
    path = Path(found)
    noise: dict[str, object] = {}
    if prediction_type is not None:
        noise["prediction_type"] = prediction_type
    if isinstance(found, Path) and str(model) in short_names():
        _log.info("--model %s is the folder or file of that name here, not the hub's", model)
    if path.is_file():
        pipeline = _load_checkpoint(path, dtype, config, noise, options)
    elif config is not None:
        raise InputError(f"a model config is for a .safetensors checkpoint, and {model} is not one")
    elif path.is_dir():
        check_folder(path)
        pipeline = _load_diffusers(str(path), dtype, noise, options)
    else:
        pipeline = _load_diffusers(str(found), dtype, noise, reach_hub(options))
    check_no_missing_weights(model, pipeline)
    check_scaling(model, pipeline.vae.config)
    check_tokenizers(model, pipeline, ("tokenizer", "tokenizer_2"), 256)
    for lora in loras:
        merge_lora(pipeline, lora)
    for embedding in embeddings:
        _log.info("prompts can use the word %r", add_embedding(pipeline, embedding))
    zeros = pipeline.config.get("force_zeros_for_empty_prompt", False)
    components = {**pipeline.components, "force_zeros_for_empty_prompt": zeros}
    if "text_encoder_2" in components and dtype == torch.float16:
        # SDXL's autoencoder overflows in float16, which its configuration states.
        pipeline.vae.to(torch.float32 if pipeline.vae.config.get("force_upcast") else dtype)
    known = None if loras or embeddings else read_known_words(path, str(model))
    return LoadedModel(components=components, recommended=read_recommended(path), known_words=known)


def _load_diffusers(
    name: str, dtype: torch.dtype, noise: dict[str, object], options: dict[str, Any]
) -> Any:
    with loading_errors(name, local_files_only=bool(options.get("local_files_only"))):
        index = diffusers.DiffusionPipeline.load_config(name, **options)
        if (problem := _unsupported_part(index, options)) is not None:
            kind = index.get("_class_name")
            remedy = "load it with load_pipeline" if kind in FLOW else f"give {SUPPORTED}"
            raise InputError(f"the model {name} is a {kind} {problem}; {remedy}")
        pipeline_class, extra = _pipeline_class(bool(index.get("text_encoder_2", (None,))[0]))
        on_hub = {k: v for k, v in options.items() if k in (*HUB_OPTIONS, "revision")}
        # Check it before the weights are downloaded and loaded.
        scheduler = _load_scheduler(name, index, noise, options, on_hub)
        files = list_files(name, on_hub)
        # diffusers has transformers load parts such as an image encoder.
        check_no_adapter(name, files, [part for part in index if part not in options])
        encoders = {
            part: load_text_encoder(name, part, index[part][1], files, on_hub | {"dtype": dtype})
            for part in ("text_encoder", "text_encoder_2")
            if part not in options and index.get(part, (None,))[0]
        }
        return pipeline_class.from_pretrained(
            name,
            **{
                **extra,
                **encoders,
                "variant": find_variant(files),
                **options,
                "scheduler": scheduler,
                "dtype": dtype,
                "use_safetensors": True,
            },
        )


def _load_scheduler(
    name: str,
    index: Mapping[str, Any],
    noise: dict[str, object],
    options: Mapping[str, Any],
    on_hub: dict[str, Any],
) -> Any:
    """Return the scheduler that is given, or else the model's own, with its noise changed.

    A given one does not change what kind of noise the network was trained on.
    """
    given, (_, class_name) = options.get("scheduler"), index.get("scheduler") or (None, None)
    own = None
    if class_name is not None:
        scheduler_class = getattr(diffusers, class_name)
        own = scheduler_class.from_pretrained(name, subfolder="scheduler", **on_hub)
    if given is None:
        return _with_noise(own, noise)
    if own is not None:
        check_family(own)
    return _with_noise(given, noise)


def _unsupported_part(index: Mapping[str, Any], replaced: Container[str]) -> str | None:
    """Describe the first part that is not Stable Diffusion's nor given; None if all fit."""
    for part, classes in _SUPPORTED_CLASSES.items():
        if part in replaced:
            continue
        entry = index.get(part)
        class_name = entry[1] if isinstance(entry, list | tuple) and len(entry) == 2 else None
        if class_name is None:
            return f"without {part}"
        if classes and class_name not in classes:
            return f"with a {class_name} for its {part}"
    return None


def _with_noise(scheduler: Any, noise: dict[str, object]) -> Any:
    """Return a scheduler with these configuration entries. Raise InputError if not supported."""
    check_scheduler(scheduler, noise)  # Its class says more than its configuration.
    return diffusers.DDIMScheduler.from_config(scheduler.config, **noise) if noise else scheduler


def _load_checkpoint(
    path: Path,
    dtype: torch.dtype,
    config: str | Path | None,
    noise: dict[str, object],
    options: dict[str, Any],
) -> Any:
    checkpoint = read_checkpoint(path)
    if config is not None:
        config = expanded(config)
        check_folder(config)
        options = {**options, "config": str(config), "local_files_only": True}
    else:
        options = reach_hub(options)
    pipeline_class, extra = _pipeline_class(checkpoint.is_large)
    try:
        pipeline = pipeline_class.from_single_file(
            str(path), **{**extra, **options, "dtype": dtype}
        )
    except LOADING_ERRORS as error:
        if config is None and options.get("local_files_only"):
            what = f"the configuration of {path.name}"
            raise unreachable(what, "give --model-config FOLDER") from None
        reason = one_line(error)
        if "meta tensor" in reason:
            reason = "it lacks weights of its type of model, or is a smaller model of its family"
        raise InputError(f"{path} cannot be loaded: {reason}") from None
    if config is None and checkpoint.guessed is not None:
        noise = {"prediction_type": checkpoint.guessed, **checkpoint.noise, **noise}
    else:
        noise = {**checkpoint.noise, **noise}
    pipeline.register_modules(scheduler=_with_noise(pipeline.scheduler, noise))
    return pipeline


def _pipeline_class(large: bool) -> tuple[Any, dict[str, Any]]:
    # Imported lazily through diffusers: the import prints notices, which the command line has
    # silenced by now.
    if large:
        return diffusers.StableDiffusionXLPipeline, {}
    return diffusers.StableDiffusionPipeline, {
        "safety_checker": None,
        "requires_safety_checker": False,
    }
