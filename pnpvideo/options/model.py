"""The options of one loaded model."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from pnpvideo.options.declared import Lifetime, Options
from pnpvideo.options.paths import PathText, plain_text
from pnpvideo.options.values import EMBEDDED_MODEL, Dtype, PathTexts, Prediction, Quantization


class ModelSettings(Options, title="model"):
    """One loaded model (see `load_model`, where model_config is config)."""

    model: Annotated[str, BeforeValidator(plain_text), Lifetime.INVERSION] = Field(
        default=EMBEDDED_MODEL,
        description=f"{EMBEDDED_MODEL} (small, offline, draws common things), sd15, sd21, sdxl, "
        "sd35, flux-dev, flux-schnell, flux2-klein, qwen-image or z-image (for photos), wan21, "
        "wan21-14b, wan22 or wan22-5b (for videos; all these are downloaded once), a diffusers "
        "folder, a hub id such as owner/name, or a .safetensors checkpoint of Stable Diffusion "
        "1.x, 2.x or XL",
        json_schema_extra={
            "brief": "bundled embedded; for photos sd15, sdxl, flux-dev; a folder, file or hub id",
            "format": "path or name",
            "metavar": "MODEL",
        },
    )
    # pydantic has a model_config of its own.
    config_folder: Annotated[PathText | None, Lifetime.INVERSION] = Field(
        default=None,
        alias="model_config",
        description="to load a checkpoint offline: a diffusers folder of the same kind of model, "
        "for its configuration and tokenizer",
        json_schema_extra={"metavar": "FOLDER"},
    )
    prediction_type: Annotated[Prediction | None, Lifetime.INVERSION] = Field(
        default=None, description="what the model predicts, if its files do not say so"
    )
    lora: Annotated[PathTexts, Lifetime.INVERSION] = Field(
        default=(),
        description="LoRA file or folder, optionally with a weight, such as style.safetensors:0.8 "
        "(1); can be repeated",
        json_schema_extra={"metavar": "FILE"},
    )
    embedding: Annotated[PathTexts, Lifetime.INVERSION] = Field(
        default=(),
        description="textual inversion (.safetensors); prompts use it by the word in the file, the "
        "file's name, or a word that you choose, such as toy.safetensors:<toy>; can be repeated",
        json_schema_extra={"metavar": "FILE"},
    )
    controlnet: Annotated[str | None, BeforeValidator(plain_text), Lifetime.INVERSION] = Field(
        default=None,
        description="ControlNet for this kind of model: a diffusers folder, a hub id or a "
        ".safetensors file; it follows --control or --control-image",
        json_schema_extra={"format": "path or name", "metavar": "MODEL"},
    )
    device: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        description="cuda, cuda:1, mps or cpu (the best available)",
        json_schema_extra={"metavar": "NAME"},
    )
    dtype: Annotated[Dtype | None, Lifetime.INVERSION] = Field(
        default=None, description="floating-point format of the model (what suits the device)"
    )
    offload: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        description="for a small GPU: keep on it only the part of the model that is working; "
        "slower",
    )
    offload_layers: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        description="for a GPU that is too small for a transformer: keep on it only the layers "
        "that are working; slower than offload",
    )
    quantize: Annotated[Quantization | None, Lifetime.INVERSION] = Field(
        default=None,
        description="store a transformer's weights in fewer bits, and compute as before: fp8 and "
        "int8 take half the memory, nf4 a quarter; int8 and nf4 need pnpvideo[quantize] (off)",
    )
