"""The pipeline in diffusers' terms: a call takes frames, and gives translated frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pnpvideo.catalogue.ask_model import texts_of, warn_of_sources, warn_of_unknown
from pnpvideo.clips.as_clip import Video, as_clip
from pnpvideo.clips.as_mask import as_mask
from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.errors import InputError
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.stable_diffusion.model import lora_layers, scaled_loras
from pnpvideo.options.declared import unknown_option
from pnpvideo.options.mask import MaskOptions
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, DIFFUSERS_NAMES, PnPOptions, Preset
from pnpvideo.options.settings import MachineSettings
from pnpvideo.pipelines.call_values import (
    check_drawn,
    check_types,
    generators_of,
    size_of_call,
    whole_count,
)
from pnpvideo.pipelines.components import Components
from pnpvideo.pipelines.step_callback import TENSORS, StepCallback
from pnpvideo.pixels.mask import Area
from pnpvideo.pixels.mask_values import ones_as_white
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.edit import EditResult, OpenEdit
from pnpvideo.stages.prompts import Texts
from pnpvideo.stages.request import Edit
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory

Generators = torch.Generator | Sequence[torch.Generator]


@dataclass
class PnPVideoPipelineOutput(BaseOutput):
    """The output of a call.

    Attributes:
        frames: For each prompt its frames, in the form that `output_type` names. "pil": list of
            lists of images; "np": float (prompts, frames, height, width, 3), 0 to 1; "pt":
            (prompts, frames, 3, height, width), 0 to 1; "latent": (prompts, frames, c, h, w).
        trajectory: The source's, to be given again for other prompts.
    """

    frames: Any
    trajectory: Trajectory


class PnPVideoPipeline(Components):
    """Plug-and-Play Diffusion Features (Tumanyan et al. 2022, arXiv 2211.12572) for video.

    Its components, and what is done to them, are those of diffusers' own pipelines (see
    `Components`).
    """

    _callback_tensor_inputs = TENSORS
    _interrupt = False

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        video: Video | None = None,
        *,
        image: Video | None = None,
        mask: Video | None = None,
        control_image: Video | None = None,
        ip_adapter_image: Video | None = None,
        guidance_prompt: str | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        inversion_prompt: str = "",
        options: PnPOptions | None = None,
        preset: Preset | None = None,
        height: int | None = None,
        width: int | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators | None = None,
        prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        trajectory: Trajectory | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        storage: Storage | None = None,
        job: JobFolder | None = None,
        cross_attention_kwargs: Mapping[str, float] | None = None,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Mapping[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        **changes: object,
    ) -> PnPVideoPipelineOutput | tuple[Any, Trajectory]:
        """Translate a video to what a prompt says, keeping its layout and motion.

        Args:
            prompt: One or several texts; all share one inversion and one source pass.
            video: The source (see `Video`).
            image: Another name of `video`.
            mask: White where the source is edited; of its size, one frame for all or as many. With
                it, or without (`mask_from_prompt`), the options of `MaskOptions` are keywords too.
            control_image: What the ControlNet follows, with a frame for each of the video's; or
                `control`, an option, says what is drawn of the video for that. It acts on the
                inversion too, so with a trajectory give what that was made with.
            ip_adapter_image: What the IP-Adapter reads beside the prompts. Beside negative prompts
                and the inversion's it reads no picture.
            guidance_prompt: In place of a video: the model makes the source itself.
            negative_prompt: One for all prompts, or one for each.
            inversion_prompt: Describes the source; '' as in the paper.
            options: How it is done; by default `model_options`.
            preset: How fast it is done (see `PnPOptions.at`).
            height: The working height in pixels, with `width`; by default the model's own area in
                the video's aspect ratio.
            width: The working width in pixels.
            num_images_per_prompt: Results for each prompt, if the options draw noise for them.
            generator: Draws all noise, so a seed repeats a result; or one for each result.
            prompt_embeds: In place of prompts: (prompts, tokens, channels).
            pooled_prompt_embeds: For SDXL: (prompts, channels).
            negative_prompt_embeds: In place of negative prompts.
            negative_pooled_prompt_embeds: For SDXL.
            trajectory: In place of a video: the source of an earlier output.
            batch_size: Frames in one pass of sampling, BRANCHES times as many in one of inversion;
                changes memory and time, not the result.
            storage: Where and how precisely the trajectory is kept (see `Storage`).
            job: Keeps the trajectory and every finished step, and goes on from there (see
                `JobFolder`). For that the generator must start the same.
            cross_attention_kwargs: `{"scale": ...}`, for how much loaded LoRA layers count.
            output_type: "pil", "np", "pt" or "latent" (see `PnPVideoPipelineOutput`); latents are
                not blended yet.
            return_dict: Whether to return an output, or its frames and trajectory as a tuple.
            callback_on_step_end: Called after each step of sampling (see `StepCallback`). It may
                set `_interrupt`: then no more steps are made.
            callback_on_step_end_tensor_inputs: The names of the tensors that it is given.
            changes: Single options by their names in `PnPOptions` or in diffusers, such as
                `num_inference_steps`; they win over options and preset, None means: keep.

        Returns:
            The frames of each prompt and the trajectory of the source.

        Raises:
            InputError: A ValueError, for what cannot be used, before any work is done.
        """
        check_types(locals())
        _check_call(output_type, batch_size)
        embeds, pooled = negative_prompt_embeds, negative_pooled_prompt_embeds
        size = size_of_call(height, width)
        images = whole_count("num_images_per_prompt", num_images_per_prompt)
        area, changes = _area(mask, changes)
        options = self._options(options, preset, changes)
        check_drawn(images, options)
        if self.controlnet is not None:
            _check_followed(options, control_image)
        texts = _one_of("prompt", prompt, prompt_embeds, pooled_prompt_embeds)
        if texts is None:
            raise InputError("give either a prompt or prompt_embeds")
        request = Edit(
            source=_one_source(video, image, guidance_prompt, trajectory),
            guidance_prompt=guidance_prompt,
            inversion_prompt=inversion_prompt,
            size=size,
            area=area,
            control_image=None if control_image is None else ones_as_white(as_clip(control_image)),
            prompt=texts,
            negative_prompt=_one_of("negative_prompt", negative_prompt, embeds, pooled),
            picture=None if ip_adapter_image is None else picture_of(ip_adapter_image),
            options=options,
            results_per_prompt=images,
            generators=generators_of(generator, texts, images),
            batch_size=int(batch_size),
            storage=storage or Storage(),
            job=job,
        )
        names = callback_on_step_end_tensor_inputs
        callbacks = Callbacks(
            bars=self._bar,
            stopped=lambda: self.interrupt,
            after_step=self._callback(callback_on_step_end, names, job),
        )
        with self.model.turn(), scaled_loras(self, self._begin(options, cross_attention_kwargs)):
            output = self._run(request, callbacks, output_type)
        return output if return_dict else (output.frames, output.trajectory)

    def _run(self, request: Edit, callbacks: Callbacks, output_type: str) -> PnPVideoPipelineOutput:
        """Run an edit to its frames. The trajectory stays open."""
        warn_of_sources(request.guidance_prompt, self.known_words)
        warn_of_unknown(texts_of(request), self.known_words)
        opened = OpenEdit(self.model, request, callbacks)
        try:
            frames = _output(opened.sample(), output_type)
        finally:
            opened.close_frames()
        self.maybe_free_model_hooks()
        return PnPVideoPipelineOutput(frames=frames, trajectory=opened.source.trajectory)

    def _begin(self, options: PnPOptions, kwargs: Mapping[str, float] | None) -> float | None:
        """Set what the properties of a call say from now on. Returns the scale of LoRA layers."""
        for name in (kwargs or {}).keys() - {"scale"}:
            raise InputError(
                f"cross_attention_kwargs holds {name!r}; give only 'scale', as the method has "
                "attention processors of its own"
            )
        scale = (kwargs or {}).get("scale")
        if scale is not None and not lora_layers(self):
            raise InputError("there is no LoRA to scale; load one, and do not fuse it")
        self._guidance_scale = options.guidance_scale
        self._guidance_rescale = options.guidance_rescale
        self._clip_skip, self._num_timesteps = options.clip_skip, options.steps
        self._cross_attention_kwargs, self._interrupt = kwargs, False
        return scale

    def _callback(
        self,
        function: Callable[..., Mapping[str, Any] | None] | None,
        names: Sequence[str],
        job: JobFolder | None,
    ) -> StepCallback | None:
        """Return the callback of a call. InputError for tensors that it may not be given."""
        if isinstance(function, PipelineCallback | MultiPipelineCallbacks):
            names = function.tensor_inputs
        if job is not None and set(names) - {"latents"}:
            raise InputError(
                "a job cannot keep embeddings that a callback changes; give it latents only"
            )
        called = function or (lambda *_: None)
        callback = StepCallback(pipeline=self, function=called, names=tuple(names))
        return None if function is None else callback

    def _bar(self, **own: Any) -> "tqdm[NoReturn]":
        """Make a progress bar as `set_progress_bar_config` says."""
        return tqdm(**own | getattr(self, "_progress_bar_config", {}))

    def _options(
        self, base: PnPOptions | None, preset: Preset | None, changes: Mapping[str, object]
    ) -> PnPOptions:
        """Return the options of a call. InputError for a keyword that no call has."""
        named = {DIFFUSERS_NAMES.get(name, name): value for name, value in changes.items()}
        for name in named.keys() - PnPOptions.model_fields.keys():
            keywords = (
                *DIFFUSERS_NAMES,
                *MaskOptions.model_fields,
                *signature(self.__call__).parameters,
            )
            raise unknown_option(name, (*PnPOptions.model_fields, *keywords))
        return (base or self.model_options).at(preset).override(named)


def _area(
    mask: Video | None, keywords: Mapping[str, object]
) -> tuple[Area | None, dict[str, object]]:
    """Return what is edited, and the keywords that are not options of that."""
    own = {name: value for name, value in keywords.items() if name in MaskOptions.model_fields}
    area = Area.of(None if mask is None else as_mask(mask), MaskOptions.of(own))
    return area, {name: value for name, value in keywords.items() if name not in own}


def picture_of(image: Video) -> Image.Image:
    """Return the picture that an IP-Adapter reads. InputError unless it is a single one."""
    clip = as_clip(image)
    if len(clip) != 1:
        raise InputError(f"ip_adapter_image has {len(clip)} frames; give one picture")
    return Image.fromarray(clip.read(0, 1)[0])


def _one_source(
    video: Video | None,
    image: Video | None,
    guidance_prompt: str | None,
    trajectory: Trajectory | None,
) -> Clip | Trajectory | None:
    """Return the source that is given. InputError unless it is exactly one."""
    if video is not None and image is not None:
        raise InputError("give the source as video or as image, not both")
    video = image if video is None else video
    if (video is not None) + (guidance_prompt is not None) + (trajectory is not None) != 1:
        raise InputError("give exactly one of video, guidance_prompt and trajectory")
    return trajectory if video is None else as_clip(video)


def _one_of(
    name: str, texts: str | Sequence[str] | None, hidden: Tensor | None, pooled: Tensor | None
) -> Texts | None:
    """Return texts or the embeddings in their place. InputError for both."""
    if hidden is None:
        return texts
    if texts is not None:
        raise InputError(f"give either a {name} or {name}_embeds")
    return PromptEmbeddings(hidden=hidden, pooled=pooled)


def _check_call(output_type: str, batch_size: int) -> None:
    """Raise InputError for values that no call can use."""
    if output_type not in ("pil", "np", "pt", "latent"):
        raise InputError(f"output_type is {output_type!r}; give pil, np, pt or latent")
    MachineSettings.check("batch_size", batch_size)


def _check_followed(options: PnPOptions, control_image: Video | None) -> None:
    """Raise InputError if a ControlNet has nothing to follow."""
    if options.control is None and control_image is None:
        raise InputError(
            "the pipeline has a ControlNet, which needs something to follow; give control or "
            "control_image"
        )


def _output(result: EditResult, output_type: str) -> Any:
    """Return the results of a call in the form that output_type names."""
    if output_type == "latent":
        return result.latents
    clips: list[Frames] = [result.all_frames(index) for index in range(len(result))]
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in frames] for frames in clips]
    stacked = np.stack(clips).astype(np.float32) / 255
    return stacked if output_type == "np" else torch.from_numpy(stacked).movedim(-1, -3)
