"""Loading of a flow-matching transformer with its parts, as diffusers' own pipeline."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from pnpvideo.catalogue.find_model import find_model
from pnpvideo.catalogue.pipelines import text_pipeline
from pnpvideo.errors import InputError
from pnpvideo.loading.families import family_of, pipeline_class
from pnpvideo.loading.hub import (
    HUB_OPTIONS,
    LOADING_ERRORS,
    find_variant,
    list_files,
    one_line,
    reach_hub,
)
from pnpvideo.loading.merge_flow_lora import merge_flow_lora
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
from pnpvideo.models.flow.family import Family
from pnpvideo.models.flow.model import default_options
from pnpvideo.models.quiet import quiet_loading
from pnpvideo.options.paths import expanded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedFlow:
    """A loaded model: diffusers' pipeline, its family, and what its folder recommends."""

    pipe: Any
    family: Family
    recommended: Recommended


@quiet_loading()
def load_flow(
    model: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    loras: Sequence[str | Path] = (),
    config: str | Path | None = None,
    **options: Any,
) -> LoadedFlow:
    """Load a model from a diffusers folder or the hub, from safetensors only.

    model: or the file of a transformer alone. loras: LoRA files or folders, merged into the
    weights. config: for a file, the diffusers folder of its model, which needs no weights of the
    transformer. options: passed on to diffusers.
    Raise InputError if there is no such model, RunError if the hub cannot be reached.
    """
    found = _whole_model(model, config)
    if isinstance(found, Path):
        check_folder(found)
    else:
        options = reach_hub(options)
    family = family_of(model, pipeline_class(found, options=options))
    if family is None:
        raise InputError(
            f"the model {model} is not a flow-matching transformer that is known here; load it "
            "with load_pipeline"
        )
    if config is not None:
        options = options | {"transformer": _load_file(model, family, found, dtype)}
    pipe = _load_pipeline(str(found), family, dtype, options)
    family = family.of(pipe)
    check_no_missing_weights(model, pipe)
    check_scaling(model, pipe.vae.config)
    tokenizers = [name for name in pipe.components if name.startswith("tokenizer")]
    check_tokenizers(model, pipe, tokenizers, 32)
    _check_together(model, pipe, family)
    for lora in loras:
        merge_flow_lora(pipe, family, lora)
    if family.is_distilled(pipe):
        _log.warning(
            "%s was distilled to few steps, and inversion was reported not to work with such "
            "models; docs/which-model.md names the ones to take instead",
            model,
        )
    return LoadedFlow(pipe=pipe, family=family, recommended=_recommended(found, pipe, family))


def _whole_model(model: str | Path, config: str | Path | None) -> Path | str:
    """Return where the parts of a model are: its folder, or that beside the transformer's file."""
    found = find_model(model)
    is_file = isinstance(found, Path) and found.is_file()
    if config is None and not is_file:
        return found
    if not is_file:
        raise InputError(f"a model config is for the file of a transformer, and {model} is not one")
    if config is None:
        raise InputError(
            f"{model} is a single file; give the diffusers folder of its model with --model-config"
        )
    return expanded(config)


def _load_file(
    model: str | Path, family: Family, folder: Path | str, dtype: torch.dtype
) -> torch.nn.Module:
    """Load the file of a transformer, in diffusers' names or its makers'."""
    path = expanded(model)
    if path.suffix != ".safetensors":
        raise InputError(f"{path} is not a .safetensors file; others can hold code")
    load = getattr(diffusers, family.transformer).from_single_file
    problem = "it lacks weights"
    try:
        transformer: torch.nn.Module = load(
            str(path), config=str(folder), subfolder="transformer", dtype=dtype
        )
    except (*LOADING_ERRORS, IndexError) as error:  # The last from the conversion of names.
        problem = one_line(error)
    else:
        if not any(weight.is_meta for weight in transformer.parameters()):
            return transformer
    raise InputError(f"{path} is not a whole transformer of {family.name}: {problem}")


def _recommended(found: Path | str, pipe: Any, family: Family) -> Recommended:
    """Return what the model's folder recommends, over the options that suit its blocks."""
    transformer = family.experts(pipe).present[0]
    blocks = read_recommended(Path(found)).blocks or family.blocks(transformer)
    return read_recommended(Path(found), default_options(family, has_blocks=bool(blocks)))


def _load_pipeline(name: str, family: Family, dtype: torch.dtype, options: dict[str, Any]) -> Any:
    with loading_errors(name, local_files_only=bool(options.get("local_files_only"))):
        index = diffusers.DiffusionPipeline.load_config(name, **options)
        _check_parts(name, index, family, options)
        on_hub = {k: v for k, v in options.items() if k in (*HUB_OPTIONS, "revision")}
        files = list_files(name, on_hub)
        _check_files(name, index, files, options)
        check_no_adapter(name, files, [part for part in index if part not in options])
        encoders = {
            part: load_text_encoder(name, part, index[part][1], files, on_hub | {"dtype": dtype})
            for part in (*family.encoders, *family.optional)
            if part not in options and _class_of(index, part)
        }
        kind = getattr(diffusers, text_pipeline(index["_class_name"]))
        return kind.from_pretrained(
            name,
            **{
                **encoders,
                "variant": find_variant(files),
                **options,
                "dtype": dtype,
                "use_safetensors": True,
            },
        )


def _class_of(index: Mapping[str, Any], part: str) -> str | None:
    """Return the class of a part in a model's index; None if it has none."""
    entry = index.get(part)
    return entry[1] if isinstance(entry, list | tuple) and len(entry) == 2 else None


def _check_parts(
    name: str, index: Mapping[str, Any], family: Family, given: Mapping[str, Any]
) -> None:
    """Raise InputError unless a model has all parts of its family, of classes that fit."""
    names = family.transformers
    present = [part for part in names if part in given or _class_of(index, part)]
    if "transformer" in given and len(present) > 1:
        raise InputError(
            f"the model {name} has {len(present)} transformers, and a file holds one; give its "
            "folder alone"
        )
    wanted: dict[str, tuple[str, ...]] = {
        **dict.fromkeys(present or names[:1], (family.transformer,)),
        "vae": family.autoencoders,
        **dict.fromkeys(family.encoders, ()),
        "scheduler": family.schedulers,
    }
    for part, classes in wanted.items():
        if part in given:
            continue
        found = _class_of(index, part)
        if found is None:
            raise InputError(
                f"the model {name} has no {part}, and {family.name} needs one; give a whole model"
            )
        if part == "scheduler" and found not in classes:
            raise InputError(
                f"the model {name} has a {found} for its scheduler, and {family.name} needs a "
                f"{' or '.join(classes)}; put one into its folder"
            )
        if classes and found not in classes:
            raise InputError(
                f"the model {name} has a {found} for its {part}, and {family.name} needs a "
                f"{' or '.join(classes)}; give a model of one kind"
            )


def _check_files(
    name: str, index: Mapping[str, Any], files: Sequence[str], given: Mapping[str, Any]
) -> None:
    """Raise InputError for a part without files, such as a tokenizer, which would be made empty."""
    there = {path.partition("/")[0] for path in files}
    for part in index:
        if part not in there and part not in given and _class_of(index, part):
            raise InputError(
                f"the model {name} has no files of its {part}; download or copy the whole model"
            )


def _check_together(model: str | Path, pipe: Any, family: Family) -> None:
    """Raise InputError for parts that belong to different models, or that cannot be sampled."""
    if (problem := family.misfit(pipe)) is not None:
        raise InputError(f"the parts of the model {model} do not fit together: {problem}")
    if (problem := family.unusable(pipe.scheduler)) is not None:
        raise InputError(f"the scheduler of the model {model} {problem}")
    try:
        schedule = family.schedule(pipe.scheduler, 4, (32, 32))
    except (InputError, *LOADING_ERRORS) as error:
        raise InputError(
            f"the scheduler of the model {model} cannot be used: {one_line(error)}; copy "
            "scheduler_config.json from the original model"
        ) from None
    try:
        for timestep in (schedule.timesteps[0], schedule.clean_timestep):
            family.experts(pipe).at(timestep)
    except InputError as error:
        raise InputError(f"the parts of the model {model} do not fit together: {error}") from None
