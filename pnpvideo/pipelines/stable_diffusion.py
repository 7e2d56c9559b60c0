"""The pipeline: frames in, translated frames out, in the stages of the main path."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from pnpvideo.clips.as_clip import Video, as_clip
from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.models.failures import check_finite
from pnpvideo.options.declared import unknown_option
from pnpvideo.options.mask import MaskOptions
from pnpvideo.options.method import (
    BRANCHES,
    DEFAULT_BATCH_SIZE,
    DIFFUSERS_NAMES,
    Lifetime,
    PnPOptions,
    Preset,
)
from pnpvideo.options.settings import MachineSettings
from pnpvideo.pixels.flow import estimate_motion
from pnpvideo.pixels.mask import Area
from pnpvideo.sampling.denoise import OnPrediction, denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.keep_outside import keep_outside
from pnpvideo.sampling.noise import noise_origins, starting_noise
from pnpvideo.sampling.spans import cut_into_spans
from pnpvideo.stages.prompts import Prompts, embed_prompts, given_embeddings
from pnpvideo.stages.source import Source, area_identity
from pnpvideo.stages.stages import Stages
from pnpvideo.stages.step_callback import TENSORS, GuidedStep, StepCallback
from pnpvideo.storage import fingerprint
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory

Generators = torch.Generator | Sequence[torch.Generator]


@dataclass
class PnPVideoPipelineOutput(BaseOutput):
    """frames: for each prompt its frames, in the form that output_type names.

    "pil": list of lists of images; "np": float (prompts, frames, height, width, 3), 0 to 1; "pt":
    (prompts, frames, 3, height, width), 0 to 1; "latent": (prompts, frames, c, h, w).
    trajectory: the source's, to be given again for other prompts.
    """

    frames: Any
    trajectory: Trajectory


class PnPVideoPipeline(Stages):
    """Plug-and-Play Diffusion Features (Tumanyan et al. 2022, arXiv 2211.12572) for video.

    Its components, and what is done to them, are those of diffusers' own pipelines (see `Parts`).
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

        prompt: one or several texts; all share one inversion and one source pass. Or prompt_embeds
            (prompts, tokens, channels), for SDXL with pooled_prompt_embeds (prompts, channels).
        video: the source (see `Video`); image is another name of it. Or guidance_prompt: the model
            makes the source itself. Or trajectory, from an earlier output.
        negative_prompt: one for all or one for each prompt; or negative_prompt_embeds.
        inversion_prompt: describes the source; '' as in the paper.
        mask: white where the source is edited; of its size, one frame for all or as many. With it,
            or without (mask_from_prompt), the options of `MaskOptions` are keywords too.
        control_image: what the ControlNet follows, with a frame for each of the video's; or
            control, an option, says what is drawn of the video for that. It acts on the inversion
            too, so with a trajectory give what that was made with.
        ip_adapter_image: what the IP-Adapter reads beside the prompts. Beside negative prompts and
            the inversion's it reads no picture.
        options: how; by default `model_options`. preset: how fast (see `PnPOptions.at`).
        changes: single options by their names in `PnPOptions` or in diffusers, such as
            num_inference_steps; they win over options and preset, None means: keep.
        height, width: the working size in pixels; by default the model's own area in the video's
            aspect ratio.
        num_images_per_prompt: results for each prompt, where options draw noise for them.
        generator: draws all noise, so a seed repeats a result; or one for each result.
        batch_size: frames in one pass of sampling, BRANCHES times as many in one of inversion;
            changes memory and time, not the result.
        storage: where and how precisely the trajectory is kept (see `Storage`).
        job: keeps the trajectory and every finished step, and goes on from there (see `JobFolder`).
            For that the generator must start the same.
        output_type: "pil", "np", "pt" or "latent" (see `PnPVideoPipelineOutput`); latents are not
            blended yet.
        cross_attention_kwargs: {"scale": ...}, for how much loaded LoRA layers count.
        callback_on_step_end: called after each step of sampling (see `StepCallback`), with the
            tensors that callback_on_step_end_tensor_inputs names. It may set `_interrupt`: then no
            more steps are made.
        Raises InputError (a ValueError) for what cannot be used, before any work is done.
        """
        # 1. Check what was given
        if video is None or image is None:
            video = image if video is None else video
        else:
            raise InputError("give the source as video or as image, not both")
        if (video is not None) + (guidance_prompt is not None) + (trajectory is not None) != 1:
            raise InputError("give exactly one of video, guidance_prompt and trajectory")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise InputError(f"output_type is {output_type!r}; give pil, np, pt or latent")
        MachineSettings.check("batch_size", batch_size)
        if (height is None) != (width is None):
            raise InputError("give both height and width, or neither")
        area, changes = _area(mask, changes)
        options = self._options(options, preset, changes)
        if self.controlnet is not None and options.control is None and control_image is None:
            raise InputError(
                "the pipeline has a ControlNet, which needs something to follow; give control or "
                "control_image"
            )
        names = callback_on_step_end_tensor_inputs
        after_step = self._callback(callback_on_step_end, names, job)
        _check_images(num_images_per_prompt, options)
        scale = self._begin(options, cross_attention_kwargs)

        with ExitStack() as open_things:
            # 2. Embed the prompts
            open_things.enter_context(self.scaled_loras(scale))
            prompts = self.prompts(
                prompt,
                negative_prompt,
                embeds=given_embeddings(prompt_embeds, pooled_prompt_embeds),
                negative_embeds=given_embeddings(
                    negative_prompt_embeds, negative_pooled_prompt_embeds
                ),
                image=None if ip_adapter_image is None else picture_of(ip_adapter_image),
                clip_skip=options.clip_skip,
                weights=options.prompt_weights,
            )
            generators = _generators(generator, len(prompts) * num_images_per_prompt)

            # 3. Open the source
            source = self.open_source(
                video if trajectory is None else trajectory,
                area=area,
                control_image=None if control_image is None else as_clip(control_image),
                guidance_prompt=guidance_prompt,
                inversion_prompt=inversion_prompt,
                size=None if width is None or height is None else (width, height),
                options=options,
                generator=generators[0],
                batch_size=batch_size,
                storage=storage,
                job=job,
            )
            open_things.callback(source.close)

            # 4. Invert and denoise
            latents = self._sample_each(
                source,
                prompts,
                options,
                generators,
                num_images_per_prompt,
                batch_size=batch_size,
                job=job,
                after_step=after_step,
            )

            # 5. Decode, and blend along the source's motion
            frames: Any = latents
            if output_type != "latent":
                clips = (self.finish(x, source, options.blend_radius, batch_size) for x in latents)
                frames = _output([np.concatenate(list(clip)) for clip in clips], output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return frames, source.trajectory
        return PnPVideoPipelineOutput(frames=frames, trajectory=source.trajectory)

    prompts = embed_prompts

    def _begin(self, options: PnPOptions, kwargs: Mapping[str, float] | None) -> float | None:
        """What the properties of a call say from now on. Returns the scale of LoRA layers."""
        for name in (kwargs or {}).keys() - {"scale"}:
            raise InputError(
                f"cross_attention_kwargs holds {name!r}; give 'scale' alone, as the method has "
                "attention processors of its own"
            )
        scale = (kwargs or {}).get("scale")
        if scale is not None and not self.lora_layers:
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
        """InputError for what it may not be given."""
        if isinstance(function, PipelineCallback | MultiPipelineCallbacks):
            names = function.tensor_inputs
        if job is not None and set(names) - {"latents"}:
            raise InputError(
                "a job keeps no embeddings that a callback changes; give latents alone"
            )
        called = function or (lambda *_: None)
        callback = StepCallback(pipeline=self, function=called, names=tuple(names))
        return None if function is None else callback

    def _sample_each(
        self,
        source: Source,
        prompts: Prompts,
        options: PnPOptions,
        generators: Sequence[torch.Generator],
        images: int,
        **how: Any,
    ) -> Tensor:
        """`sample` for each prompt so many times in a row: with one generator, or with many."""
        if len(generators) > 1:
            single = [prompts.one(i) for i in range(len(prompts)) for _ in range(images)]
            pairs = zip(single, generators, strict=True)
            return torch.cat([self.sample(source, one, options, g, **how) for one, g in pairs])
        rounds = [
            self.sample(source, prompts, options, generators[0], **how) for _ in range(images)
        ]
        return rounds[0] if images == 1 else torch.stack(rounds, dim=1).flatten(0, 1)

    def sample(
        self,
        source: Source,
        prompts: Prompts,
        options: PnPOptions,
        generator: torch.Generator,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        job: JobFolder | None = None,
        after_step: GuidedStep | None = None,
        on_prediction: OnPrediction | None = None,
        span: range | None = None,
    ) -> Tensor:
        """Clean latents (prompts, frames, c, h, w) of the results.

        What is missing of the source's trajectory is inverted first. job: the one that the source
        was opened with. after_step: called after each step; what it returns is gone on with.
        on_prediction: called at each step with the clean latents that it expects. span:
        sample these frames alone, one of `spans`, as they come out among all; None: all.
        """
        trajectory, resume = source.trajectory, None
        span = span or range(trajectory.latents.shape[1])
        if job is not None:
            seed = fingerprint.of_tensors([("generator", generator.get_state())])
            layers = fingerprint.of_values(asdict(self.layers))
            own = options.identity(Lifetime.INVERSION, Lifetime.SAMPLING) | area_identity(
                source.area
            )
            others = {"layers": layers, "seed": seed}
            resume = job.state(own | source.identity | prompts.identity | others)
        self.invert(source, options, batch_size=batch_size, span=span)
        edited = self.find_mask(source, options, batch_size=batch_size)
        control = self.find_control(source, options, batch_size=batch_size)
        noise, scenes, origins = self.start(source, options, generator, batch_size)
        texts = Texts(
            source=self.encode_source(trajectory.prompt, options),
            targets=prompts.targets,
            negatives=prompts.negatives,
            unconditional=self.encode_texts([""]),
        )
        guidance = Guidance(texts, options)

        def keep(step: int, timestep: float, latents: Tensor) -> Tensor:
            if edited is not None:
                latents = keep_outside(latents, trajectory.latents[step + 1, :], edited)
            if after_step is not None:
                latents = after_step(step, timestep, latents, guidance)
            check_finite(latents, "network", self.unet.dtype)
            if job is not None:
                now = generator.get_state()
                job.save(
                    DenoisingState(
                        steps=step + 1,
                        latents=latents[:, span.start : span.stop],
                        generator=now,
                        first=span.start,
                    )
                )
            return latents

        def show(step: int, clean: Tensor) -> None:
            assert on_prediction is not None
            if edited is not None:
                clean = keep_outside(clean, trajectory.clean, edited)
            on_prediction(step, clean)

        count, done = len(span), 0 if resume is None else resume.steps
        with (
            self._network(control) as network,
            self._bar("translating", count * options.steps, count * done) as bar,
        ):
            latents = denoise_latents(
                network,
                self.layers,
                self.schedule(options),
                trajectory,
                noise.expand(len(prompts.targets), *noise.shape),
                guidance,
                options,
                generator,
                batch_size=batch_size,
                scenes=scenes,
                origins=origins,
                span=span,
                resume=resume,
                after_step=keep,
                on_prediction=None if on_prediction is None else show,
                stopped=lambda: self.interrupt,
                progress=bar.update,
            )
        self.maybe_free_model_hooks()
        return latents

    def spans(
        self, source: Source, options: PnPOptions, count: int, batch_size: int
    ) -> tuple[range, ...]:
        """A source's frames cut into at most so many spans that can be sampled one by one, each as
        it comes out among all: at scene cuts, or anywhere where frames share nothing.
        """
        frames = source.trajectory.latents.shape[1]
        if _is_shared(options):
            return cut_into_spans(frames, [scene.start for scene in source.scenes], count)
        return cut_into_spans(frames, range(0, frames, BRANCHES * batch_size), count)

    def start(
        self, source: Source, options: PnPOptions, generator: torch.Generator, batch_size: int
    ) -> tuple[Tensor, Sequence[range], Tensor | None]:
        """x_T (frames, c, h, w) of the results of an inverted source, its scenes, and how noise
        that frames share moves, as far as options ask for these.
        """
        inverted = source.trajectory.noise.to(self.latent_dtype)
        scenes, origins = self._scenes_and_origins(source, inverted, options, batch_size)
        return starting_noise(inverted, generator, options, scenes, origins), scenes, origins

    def _scenes_and_origins(
        self, source: Source, inverted: Tensor, options: PnPOptions, batch_size: int
    ) -> tuple[Sequence[range], Tensor | None]:
        count, height, width = len(inverted), *inverted.shape[-2:]
        if count == 1 or not _is_shared(options):
            return (range(count),), None
        if not options.noise_motion:
            return source.scenes, None
        motion = estimate_motion(source.frames(batch_size), width, height)
        return source.scenes, noise_origins(motion, source.scenes, (height, width))

    def _options(
        self, base: PnPOptions | None, preset: Preset | None, changes: Mapping[str, object]
    ) -> PnPOptions:
        """The options of a call. InputError for a keyword that no call has."""
        named = {DIFFUSERS_NAMES.get(name, name): value for name, value in changes.items()}
        for name in named.keys() - PnPOptions.model_fields.keys():
            keywords = (
                *DIFFUSERS_NAMES,
                *MaskOptions.model_fields,
                *signature(self.__call__).parameters,
            )
            raise unknown_option(name, (*PnPOptions.model_fields, *keywords))
        return (base or self.model_options).at(preset).override(named)


def _is_shared(options: PnPOptions) -> bool:
    """Whether the frames of a scene share more than one noise that stands still."""
    attention = options.attention_sharing != "none"
    return attention or options.noise_source == "keyframe" or options.noise_motion


def _area(
    mask: Video | None, keywords: Mapping[str, object]
) -> tuple[Area | None, dict[str, object]]:
    """What is edited, and the keywords that are no options of it."""
    own = {name: value for name, value in keywords.items() if name in MaskOptions.model_fields}
    if isinstance(mask, str | Path):
        mask = read_clip(mask, background="black")
    area = Area.of(None if mask is None else as_clip(mask), MaskOptions.of(own))
    return area, {name: value for name, value in keywords.items() if name not in own}


def picture_of(image: Video) -> Image.Image:
    """What an IP-Adapter reads. InputError where it is no single picture."""
    clip = as_clip(image)
    if len(clip) != 1:
        raise InputError(f"ip_adapter_image has {len(clip)} frames; give one picture")
    return Image.fromarray(clip.read(0, 1)[0])


def _check_images(images: int, options: PnPOptions) -> None:
    if images < 1:
        raise InputError(f"num_images_per_prompt is {images}; give a whole number of at least 1")
    if images > 1 and not options.draws:
        raise InputError(
            f"num_images_per_prompt is {images}, and all would be the same, as the noise is the "
            "source's; give noise_share or eta above 0"
        )


def _generators(given: Generators | None, results: int) -> Sequence[torch.Generator]:
    """One, or one for each result."""
    if given is None:
        given = torch.Generator()
        given.seed()
    generators = [given] if isinstance(given, torch.Generator) else list(given)
    if len(generators) not in (1, results):
        raise InputError(
            f"there are {len(generators)} generators for {results} results; give one, or one each"
        )
    return generators


def _output(clips: Sequence[Frames], output_type: str) -> Any:
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in frames] for frames in clips]
    stacked = np.stack(clips).astype(np.float32) / 255
    return stacked if output_type == "np" else torch.from_numpy(stacked).movedim(-1, -3)
