"""The family of a model by the pipeline of diffusers that its folder names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers

from pnpvideo.catalogue.find_model import find_model
from pnpvideo.catalogue.pipelines import OTHERS, SUPPORTED, text_pipeline
from pnpvideo.errors import InputError
from pnpvideo.loading.hub import HUB_OPTIONS, LOADING_ERRORS, reach_hub
from pnpvideo.models.flow.family import Family
from pnpvideo.models.flow.flux_1 import Flux1
from pnpvideo.models.flow.flux_2 import Flux2, Flux2Klein
from pnpvideo.models.flow.qwen_image import QwenImage
from pnpvideo.models.flow.stable_diffusion_3 import StableDiffusion3
from pnpvideo.models.flow.wan import Wan
from pnpvideo.models.flow.z_image import ZImage
from pnpvideo.options.paths import expanded

FAMILIES: Mapping[str, Family] = {
    "StableDiffusion3Pipeline": StableDiffusion3(),
    "FluxPipeline": Flux1(),
    "QwenImagePipeline": QwenImage(),
    "ZImagePipeline": ZImage(),
    "Flux2Pipeline": Flux2(),
    "Flux2KleinPipeline": Flux2Klein(),
    "WanPipeline": Wan(),
}
"""The families of flow-matching transformers, by the class of their pipeline in diffusers."""


def pipeline_class(
    model: str | Path, config: str | Path | None = None, options: Mapping[str, Any] | None = None
) -> str | None:
    """Return the class of the pipeline that a model's folder names; None if that cannot be read.

    config: for a single file, the folder beside it. options: diffusers' options for the hub. What
    is wrong with a model is for its loading to say.
    """
    found = find_model(model)
    folder = expanded(config) if config is not None else found
    if isinstance(folder, Path):
        try:
            index = json.loads((folder / "model_index.json").read_bytes())
        except (OSError, ValueError):
            return None
        return _class_of(index)
    on_hub = {k: v for k, v in (options or {}).items() if k in (*HUB_OPTIONS, "revision")}
    try:
        index = diffusers.DiffusionPipeline.load_config(folder, **reach_hub(on_hub))
    except LOADING_ERRORS:
        return None
    return _class_of(index)


def _class_of(index: object) -> str | None:
    """Return the class that an index names; None if it names none."""
    name = index.get("_class_name") if isinstance(index, Mapping) else None
    return name if isinstance(name, str) else None


def family_of(model: str | Path, class_name: str | None) -> Family | None:
    """Return the family of a model by its pipeline's class; None if it is not one of these.

    InputError for pipelines that take something beside a prompt, which this method has no use for.
    """
    if class_name is None:
        return None
    if class_name in OTHERS:
        raise InputError(
            f"the model {model} is a {class_name}, {OTHERS[class_name]}, which cannot be used "
            f"here; give {SUPPORTED}"
        )
    return FAMILIES.get(text_pipeline(class_name))
