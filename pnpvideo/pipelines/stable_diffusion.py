"""The pipeline in diffusers' terms: a call takes frames, and gives translated frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pnpvideo.catalogue.ask_model import texts_of, warn_of_sources, warn_of_unknown
from pnpvideo.clips.as_clip import Video, as_clip
from pnpvideo.errors import InputError
from pnpvideo.models.stable_diffusion.model import lora_layers, scaled_loras
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, PnPOptions, Preset
from pnpvideo.options.values import plain_number
from pnpvideo.pipelines.call import (
    PnPVideoPipelineOutput,
    area_of,
    bars_of_pipe,
    check_call,
    one_of,
    one_source,
    options_of,
    output_of,
    picture_of,
)
from pnpvideo.pipelines.call_values import (
    Generators,
    check_drawn,
    check_types,
    generators_of,
    size_of_call,
    timesteps_of,
    whole_count,
    with_timesteps,
)
from pnpvideo.pipelines.components import Components
from pnpvideo.pipelines.step_callback import TENSORS, step_callback
from pnpvideo.pixels.mask_values import ones_as_white
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory


class PnPVideoPipeline(Components):
    """Plug-and-Play Diffusion Features (Tumanyan et al. 2022, arXiv 2211.12572) for video.

    Its components, and what is done to them, are those of diffusers' own pipelines (see
    `Components`).
    """

    _callback_tensor_inputs = TENSORS
    _interrupt = False
    _guidance_scale_2: float | None = None  # There is one UNet.

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
        inversion_prompt: str | None = "",
        options: PnPOptions | None = None,
        preset: Preset | None = None,
        timesteps: Sequence[int] | None = None,
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
            inversion_prompt: Describes the source; '' as in the paper, or None.
            options: How it is done; by default `model_options`.
            preset: How fast it is done (see `PnPOptions.at`).
            timesteps: A schedule of your own: whole numbers that fall strictly, below the number
                of the model's training timesteps. They say how many steps there are, too.
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
        check_call(output_type, batch_size)
        embeds, pooled = negative_prompt_embeds, negative_pooled_prompt_embeds
        size = size_of_call(height, width)
        images = whole_count("num_images_per_prompt", num_images_per_prompt)
        area, changes = area_of(mask, changes)
        own = timesteps_of(timesteps, self.scheduler.config.num_train_timesteps)
        said = {name for name, value in changes.items() if value is not None}
        said |= {"preset"} if preset is not None else set()
        options = options_of(options or self.model_options, preset, changes, self.__call__)
        options = with_timesteps(options, own, said)
        check_drawn(images, options)
        if self.controlnet is not None:
            _check_followed(options, control_image)
        texts = one_of("prompt", prompt, prompt_embeds, pooled_prompt_embeds)
        if texts is None:
            raise InputError("give either a prompt or prompt_embeds")
        request = Edit(
            source=one_source(video, image, guidance_prompt, trajectory),
            guidance_prompt=guidance_prompt,
            inversion_prompt=inversion_prompt or "",
            size=size,
            area=area,
            control_image=None if control_image is None else ones_as_white(as_clip(control_image)),
            prompt=texts,
            negative_prompt=one_of("negative_prompt", negative_prompt, embeds, pooled),
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
            bars=bars_of_pipe(self),
            stopped=lambda: self.interrupt,
            after_step=step_callback(self, callback_on_step_end, names, job),
        )
        with self.model.turn(), scaled_loras(self, self._begin(options, cross_attention_kwargs)):
            self.own_timesteps = own
            try:
                output = self._run(request, callbacks, output_type)
            finally:
                self.own_timesteps = None
        return output if return_dict else (output.frames, output.trajectory)

    def _run(self, request: Edit, callbacks: Callbacks, output_type: str) -> PnPVideoPipelineOutput:
        """Run an edit to its frames. The trajectory stays open."""
        warn_of_sources(request.guidance_prompt, self.known_words)
        warn_of_unknown(texts_of(request), self.known_words)
        opened = OpenEdit(self.model, request, callbacks)
        try:
            frames = output_of(opened.sample(), output_type)
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
        scale = plain_number((kwargs or {}).get("scale"))
        if not isinstance(scale, int | float | None):
            raise InputError(f"cross_attention_kwargs has scale {scale!r:.40}; give a number")
        if scale is not None and not lora_layers(self):
            raise InputError("there is no LoRA to scale; load one, and do not fuse it")
        self._guidance_scale = options.guidance_scale
        self._guidance_rescale = options.guidance_rescale
        self._clip_skip, self._num_timesteps = options.clip_skip, options.steps
        self._cross_attention_kwargs, self._interrupt = kwargs, False
        return scale


def _check_followed(options: PnPOptions, control_image: Video | None) -> None:
    """Raise InputError if a ControlNet has nothing to follow."""
    if options.control is None and control_image is None:
        raise InputError(
            "the pipeline has a ControlNet, which needs something to follow; give control or "
            "control_image"
        )
