"""Opening of a run's inputs, model and device, and of the storage for its trajectory."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from pnpvideo.catalogue.ask_model import check_makes_sources, words_for
from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError, RunError
from pnpvideo.loading.families import family_of, pipeline_class
from pnpvideo.loading.ip_adapter import find_encoder, read_ip_adapter
from pnpvideo.loading.quantize import check_layer_offload
from pnpvideo.models.batches import is_out_of_memory
from pnpvideo.models.device import default_device, default_dtype
from pnpvideo.models.model import Model
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.declared import shown
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.settings import MachineSettings, ReadSettings, Settings
from pnpvideo.pipelines.call import picture_of
from pnpvideo.pipelines.flow import PnPFlowPipeline
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.pixels.control import check_control
from pnpvideo.pixels.mask import Area, check_mask, check_mask_size
from pnpvideo.pixels.mask_values import ones_as_white
from pnpvideo.storage.allocate import Storage

_log = logging.getLogger(__name__)

Pipeline = PnPVideoPipeline | PnPFlowPipeline

Loaded = Pipeline | Model
"""A loaded model: a pipeline, or a `Model` of any family."""

Opener = Callable[[ModelSettings], Model]
"""Loads the model of some settings, as `open_model` does."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of a run. clip: the source; None if the model generates it. picture: for an
    IP-Adapter.
    """

    clip: Clip | None
    area: Area | None
    control_image: Clip | None
    picture: Image.Image | None


def read_inputs(settings: Settings, open_things: contextlib.ExitStack) -> Inputs:
    """Read the inputs of a run; a context closes them at its end. InputError if one is unusable."""
    clip = picture = None
    if settings.source is not None:
        clip = read_clip(settings.source, **settings.part(ReadSettings))
        open_things.callback(clip.close)
        _log.debug("%s: %d frames, %d x %d", clip.name, len(clip), clip.width, clip.height)
    area = read_area(settings, clip, open_things)
    control_image = read_control(settings, clip, open_things)
    if settings.ip_adapter_image is not None:
        picture = picture_of(settings.ip_adapter_image)
    return Inputs(clip=clip, area=area, control_image=control_image, picture=picture)


def read_area(
    settings: Settings, clip: Clip | None, open_things: contextlib.ExitStack
) -> Area | None:
    """Read the part that a run edits."""
    mask = None
    if settings.mask is not None:
        mask = read_beside(settings.mask, settings, open_things, background="black")
        # A mask of another source need not be read to its end.
        if clip is not None:
            check_mask_size(mask, (clip.width, clip.height), len(clip))
    area = Area.of(mask, settings)
    if clip is not None and area is not None and area.mask is not None:
        check_mask(area.mask, (clip.width, clip.height), len(clip))
    return area


def read_control(
    settings: Settings, clip: Clip | None, open_things: contextlib.ExitStack
) -> Clip | None:
    """Read the pictures that a ControlNet follows; None if they are drawn from the source."""
    if settings.control_image is None:
        return None
    image = ones_as_white(read_beside(settings.control_image, settings, open_things))
    if clip is not None:
        check_control(image, (clip.width, clip.height), len(clip))
    return image


def known_words(
    settings: ModelSettings, pipeline: Loaded | None, guidance_prompt: str | None
) -> KnownWords | None:
    """Return the words that the model of a run knows, if it lists them, before it is loaded.

    InputError for a model that is to make a source from words and cannot.
    """
    known = words_for(settings) if pipeline is None else model_of(pipeline).known_words
    check_makes_sources(guidance_prompt, known)
    return known


def check_additions(settings: Settings) -> None:
    """Raise InputError if the ControlNet or the IP-Adapter that other options need is missing."""
    if settings.ip_adapter_image is not None and settings.ip_adapter is None:
        raise InputError("ip_adapter_image is for an IP-Adapter; give one with ip_adapter")
    if settings.ip_adapter is not None:
        read_ip_adapter(settings.ip_adapter)
        find_encoder(settings.ip_adapter, settings.image_encoder)
    if settings.is_controlled and settings.controlnet is None:
        name = "control" if settings.control_image is None else "control_image"
        raise InputError(f"{name} is for a ControlNet; give one with controlnet")


def read_beside(
    path: str, settings: ReadSettings, open_things: contextlib.ExitStack, **changes: object
) -> Clip:
    """Read a clip that goes with a source, with the same options, so that frames correspond.

    changes: options that differ.
    """
    how = {"reader": settings.reader, "max_pixels": settings.max_pixels, "frames": 2}
    beside = read_clip(path, **how | changes)
    if len(beside) > 1:
        beside.close()
        chosen = settings.part(ReadSettings) | {"frame_rate": None} | changes
        beside = read_clip(path, **chosen)
    open_things.callback(beside.close)
    return beside


def storage_of(settings: MachineSettings, folder: Path) -> Storage:
    """Return how the trajectory is kept. folder: of the results, for a file."""
    place, precision = settings.trajectory, settings.trajectory_precision
    return Storage(place=place, precision=precision, folder=folder)


def load_pipeline(settings: ModelSettings, device: torch.device | None = None) -> Pipeline:
    """Load the model of some settings onto its device, as a pipeline of its family.

    Args:
        settings: Those of the model; `Settings` of a whole run have them too.
        device: By default the one that the settings name, or the best of this machine.

    Returns:
        The pipeline, for calls of its own or for `translate(pipeline=...)`.

    Raises:
        InputError: If there is no such model or device, or they cannot be used.
        RunError: If the model cannot be downloaded.
    """
    device = device or choose_device(settings)
    dtype = getattr(torch, settings.dtype) if settings.dtype else default_dtype(device)
    class_name = pipeline_class(settings.model, settings.config_folder)
    family = family_of(settings.model, class_name)
    pipeline: Pipeline
    if family is None:
        if class_name is not None:
            _check_no_transformer_options(settings)
        pipeline = _load_stable_diffusion(settings, dtype)
    else:
        _check_additions_of(family.name, settings)
        if settings.offload_layers:
            check_layer_offload(settings.quantize)
        pipeline = PnPFlowPipeline.from_pretrained(
            settings.model,
            dtype=dtype,
            loras=settings.lora,
            quantize=settings.quantize,
            config=settings.config_folder,
        )
    with memory_errors_in_one_line(device):
        if settings.offload_layers and isinstance(pipeline, PnPFlowPipeline):
            pipeline.enable_layer_offload(device)
        elif settings.offload:
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)
    return pipeline


def _check_no_transformer_options(settings: ModelSettings) -> None:
    """Raise InputError for options that models with a UNet do not have."""
    for option in ("quantize", "offload_layers"):
        if getattr(settings, option):
            raise InputError(
                f"{option} is for models with a transformer, and {settings.model} has a UNet; "
                "leave it out"
            )


def _load_stable_diffusion(settings: ModelSettings, dtype: torch.dtype) -> PnPVideoPipeline:
    """Load a Stable Diffusion 1.x, 2.x or XL model with all that is added to it."""
    pipeline = PnPVideoPipeline.from_pretrained(
        settings.model,
        torch_dtype=dtype,
        loras=settings.lora,
        embeddings=settings.embedding,
        config=settings.config_folder,
        controlnet=settings.controlnet,
        prediction_type=settings.prediction_type,
    )
    # Only now is it known of a single file, or of a model whose index could not be read.
    _check_no_transformer_options(settings)
    if isinstance(settings, AdapterSettings) and settings.ip_adapter is not None:
        pipeline.load_ip_adapter(settings.ip_adapter, image_encoder_folder=settings.image_encoder)
        pipeline.set_ip_adapter_scale(settings.ip_adapter_scale)
    return pipeline


def _check_additions_of(name: str, settings: ModelSettings) -> None:
    """Raise InputError for additions that are only for models with a UNet. name: the family's."""
    adapter = settings.ip_adapter if isinstance(settings, AdapterSettings) else None
    for option, given, instead in (
        ("controlnet", settings.controlnet, "its injection keeps the layout"),
        ("ip_adapter", adapter, "say in the prompt what the picture shows"),
        ("embedding", settings.embedding, "give lora, which these models have instead"),
        ("prediction_type", settings.prediction_type, "it predicts a flow"),
    ):
        if given:
            raise InputError(
                f"{option} is for Stable Diffusion 1.x, 2.x and XL, and the model "
                f"{settings.model} is {name}; leave {option} out: {instead}"
            )


def open_model(settings: ModelSettings, device: torch.device | None = None) -> Model:
    """Load the model of some settings, as `load_pipeline` does."""
    return load_pipeline(settings, device).model


def model_of(loaded: Loaded) -> Model:
    """Return the model of a pipeline, or the model itself. InputError for anything else."""
    if isinstance(loaded, PnPVideoPipeline | PnPFlowPipeline):
        return loaded.model
    if not hasattr(loaded, "encode_texts"):
        raise InputError(
            f"pipeline is {shown(loaded)}; give one that is loaded, such as "
            'load_pipeline(ModelSettings(model="embedded")), or give model in its place'
        )
    return loaded


def choose_device(settings: ModelSettings) -> torch.device:
    """Return the device that settings name, or the best one. InputError if it does not exist."""
    device = default_device()
    if settings.device is not None:
        try:
            device = torch.device(settings.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):
            raise InputError(
                f"device is {settings.device!r}, which is not available; give cuda, cuda:1, mps or "
                "cpu, or leave it out"
            ) from None
    for option in ("offload", "offload_layers"):
        if getattr(settings, option) and device.type == "cpu":
            raise InputError(f"{option} is for a GPU, and this run is on the CPU; leave it out")
    return device


@contextlib.contextmanager
def memory_errors_in_one_line(device: torch.device) -> Iterator[None]:
    """Turn running out of memory within the context into a RunError of one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"the memory of {device} is not enough, even for one frame at a time; give a "
            "smaller --size"
        ) from None
