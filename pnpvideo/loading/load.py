"""A model by name to its diffusers components: embedded, a folder, a hub id or one checkpoint."""

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from pnpvideo.errors import InputError
from pnpvideo.loading.checkpoint import read_checkpoint
from pnpvideo.loading.embedding import add_embedding
from pnpvideo.loading.hub import (
    HUB_ID,
    HUB_OPTIONS,
    UNUSABLE,
    files_of,
    one_line,
    reach_hub,
    unreachable,
    variant_of,
)
from pnpvideo.loading.merge_lora import merge_lora
from pnpvideo.loading.recommended import Recommended, read_recommended
from pnpvideo.models.quiet import quiet_loading
from pnpvideo.models.scheduler import check_scheduler
from pnpvideo.options.values import EMBEDDED_MODEL

_log = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parent.parent / "embedded"
_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny", "AsymmetricAutoencoderKL"),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": (),
}
"""Of the parts that every model has; without one any will do here."""
_CHECKPOINTS = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """components: what the pipeline is made of, by the names that diffusers gives.

    recommended: what the model's folder says of its use.
    """

    components: dict[str, Any]
    recommended: Recommended


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

    model: "embedded", a diffusers folder, a hub id, or a `.safetensors` checkpoint.
    loras: LoRA files or folders, merged into the weights (see `merge_lora`).
    embeddings: files of textual inversions, whose words are learnt (see `add_embedding`).
    config: for a checkpoint, a diffusers folder with the configuration, tokenizer and scheduler of
        its kind of model (the weights are not needed); without it, diffusers asks the hub.
    prediction_type: what the network predicts, where its scheduler does not say it truly.
    options: passed on to diffusers.
    Raises InputError where there is no such model, RunError where the hub cannot be reached.
    """
    path = EMBEDDED if str(model) == EMBEDDED_MODEL else Path(model).expanduser()
    noise: dict[str, object] = {}
    if prediction_type is not None:
        noise["prediction_type"] = prediction_type
    if path.is_file():
        stock = _load_checkpoint(path, dtype, config, noise, options)
    elif config is not None:
        raise InputError(f"a model config is for a .safetensors checkpoint; {model} is none")
    elif path.is_dir():
        _check_folder(path)
        stock = _load_diffusers(str(path), dtype, noise, options)
    elif HUB_ID.fullmatch(str(model)) and path.suffix not in _CHECKPOINTS:
        stock = _load_diffusers(str(model), dtype, noise, reach_hub(options))
    else:
        raise InputError(
            f"there is no model {str(model)!r}; give '{EMBEDDED_MODEL}', a diffusers folder, "
            "a hub id such as owner/name, or a .safetensors file"
        )
    _check_whole(model, stock)
    for name in ("tokenizer", "tokenizer_2"):
        # transformers makes an empty one where its files are missing.
        tokenizer = getattr(stock, name, None)
        if tokenizer is not None and len(tokenizer) < 256:
            raise InputError(f"the model {model} cannot be loaded: its {name} has no vocabulary")
    for lora in loras:
        merge_lora(stock, lora)
    for embedding in embeddings:
        _log.info("prompts may say %r", add_embedding(stock, embedding))
    zeros = stock.config.get("force_zeros_for_empty_prompt", False)
    components = {**stock.components, "force_zeros_for_empty_prompt": zeros}
    if "text_encoder_2" in components and dtype == torch.float16:
        # SDXL's autoencoder overflows in float16 and says so in its configuration.
        stock.vae.to(torch.float32 if stock.vae.config.get("force_upcast") else dtype)
    return LoadedModel(components=components, recommended=read_recommended(path))


def _load_diffusers(
    name: str, dtype: torch.dtype, noise: dict[str, object], options: dict[str, Any]
) -> Any:
    try:
        index = diffusers.DiffusionPipeline.load_config(name, **options)
        if (other := _other_part(index, options)) is not None:
            raise InputError(
                f"the model {name} is a {index.get('_class_name')} {other}; "
                "give a Stable Diffusion 1.x, 2.x or XL model"
            )
        stock, extra = _stock(bool(index.get("text_encoder_2", (None,))[0]))
        on_hub = {k: v for k, v in options.items() if k in (*HUB_OPTIONS, "revision")}
        scheduler = options.get("scheduler")
        if scheduler is None:
            kind = getattr(diffusers, index["scheduler"][1])
            scheduler = kind.from_pretrained(name, subfolder="scheduler", **on_hub)
        # Before the weights are fetched and loaded.
        scheduler = _with_noise(scheduler, noise)
        files = files_of(name, on_hub)
        encoders = {
            part: _load_text_encoder(name, part, index[part][1], files, on_hub | {"dtype": dtype})
            for part in ("text_encoder", "text_encoder_2")
            if part not in options and index.get(part, (None,))[0]
        }
        return stock.from_pretrained(
            name,
            **{
                **extra,
                **encoders,
                "variant": variant_of(files),
                **options,
                "scheduler": scheduler,
                "dtype": dtype,
                "use_safetensors": True,
            },
        )
    except InputError:
        raise
    except UNUSABLE as error:
        if options.get("local_files_only"):
            raise unreachable(f"the model {name}", "name a folder") from None
        why = one_line(error)
        # diffusers puts its own errors in front of the hub's.
        if isinstance(error.__context__, GatedRepoError):
            why = "the hub wants you to accept its terms; do so there and log in"
        elif isinstance(error.__context__, RepositoryNotFoundError):
            why = "the hub has no public model of this name; check it"
        raise InputError(f"the model {name} cannot be loaded: {why}") from None


def _load_text_encoder(
    name: str, part: str, kind: str, files: Sequence[str], options: dict[str, Any]
) -> Any:
    """InputError where it lacks weights: transformers gives it random ones, without an error."""
    encoder, info = getattr(transformers, kind).from_pretrained(
        name,
        subfolder=part,
        variant=variant_of(path for path in files if path.startswith(f"{part}/")),
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    _check_weights(name, part, sorted(info["missing_keys"]))
    return encoder


def _other_part(index: Mapping[str, Any], given: Container[str]) -> str | None:
    """The first part, of those that are not given, that is not Stable Diffusion's, in words."""
    for part, kinds in _CLASSES.items():
        if part in given:
            continue
        entry = index.get(part)
        kind = entry[1] if isinstance(entry, list | tuple) and len(entry) == 2 else None
        if kind is None:
            return f"without {part}"
        if kinds and kind not in kinds:
            return f"with a {kind} for its {part}"
    return None


def _with_noise(scheduler: Any, noise: dict[str, object]) -> Any:
    """A scheduler whose configuration has these entries. InputError: not of a kind for us."""
    if noise:
        scheduler = diffusers.DDIMScheduler.from_config(scheduler.config, **noise)
    check_scheduler(scheduler)
    return scheduler


def _load_checkpoint(
    path: Path,
    dtype: torch.dtype,
    config: str | Path | None,
    noise: dict[str, object],
    options: dict[str, Any],
) -> Any:
    checkpoint = read_checkpoint(path)
    if config is not None:
        config = Path(config).expanduser()
        _check_folder(config)
        options = {**options, "config": str(config), "local_files_only": True}
    else:
        options = reach_hub(options)
    stock, extra = _stock(checkpoint.is_large)
    try:
        loaded = stock.from_single_file(str(path), **{**extra, **options, "dtype": dtype})
    except UNUSABLE as error:
        if config is None and options.get("local_files_only"):
            what = f"the configuration of {path.name}"
            raise unreachable(what, "give --model-config FOLDER") from None
        why = one_line(error)
        if "meta tensor" in why:
            why = "it lacks weights of its kind of model, or is a smaller one of its family"
        raise InputError(f"{path} cannot be loaded: {why}") from None
    if config is None and checkpoint.guessed is not None:
        noise = {"prediction_type": checkpoint.guessed, **checkpoint.noise, **noise}
    else:
        noise = {**checkpoint.noise, **noise}
    loaded.register_modules(scheduler=_with_noise(loaded.scheduler, noise))
    return loaded


def _stock(large: bool) -> tuple[Any, dict[str, Any]]:
    # Reached through diffusers, which imports them now: their import prints notices, which the
    # command line has silenced by now.
    if large:
        return diffusers.StableDiffusionXLPipeline, {}
    return diffusers.StableDiffusionPipeline, {
        "safety_checker": None,
        "requires_safety_checker": False,
    }


def _check_folder(folder: Path) -> None:
    if (folder / "model_index.json").is_file():
        return
    remedy = "give a folder that has one"
    if (folder / "config.json").is_file():
        remedy = "a part of a model is not enough; give the folder above it"
    elif files := sorted(folder.glob("*.safetensors")):
        remedy = f"to load a single file name it, such as {files[0]}"
    raise InputError(f"{folder} is no diffusers model: it has no model_index.json; {remedy}")


def _check_whole(model: str | Path, stock: Any) -> None:
    """InputError where a part lacks weights, which diffusers leaves without values."""
    for part, module in stock.components.items():
        weights = module.named_parameters() if isinstance(module, torch.nn.Module) else ()
        _check_weights(model, part, [name for name, weight in weights if weight.is_meta])


def _check_weights(model: str | Path, part: str, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(
            f"the model {model} cannot be loaded: its {part} lacks {len(missing)} weights, "
            f"such as {missing[0]}"
        )
