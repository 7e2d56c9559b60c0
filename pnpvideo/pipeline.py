"""The pipeline: frames in, translated frames out, in the stages of the main path."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from pnpvideo.clips.as_clip import Video
from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.models.failures import check_finite
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.motion.flow import estimate_motion
from pnpvideo.options.declared import unknown_option
from pnpvideo.options.method import (
    DEFAULT_BATCH_SIZE,
    DIFFUSERS_NAMES,
    Lifetime,
    PnPOptions,
    Preset,
)
from pnpvideo.options.settings import MachineSettings, check_negatives
from pnpvideo.sampling.denoise import AfterStep, denoise_latents
from pnpvideo.sampling.guidance import Texts
from pnpvideo.sampling.noise import noise_origins, starting_noise
from pnpvideo.source import Source
from pnpvideo.stages import Stages
from pnpvideo.storage import identity as fingerprint
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_folder import Identity, JobFolder
from pnpvideo.storage.trajectory import Trajectory


@dataclass
class PnPVideoPipelineOutput(BaseOutput):  # type: ignore[misc]
    """frames: for each prompt its frames, in the form that output_type names.

    "pil": list of lists of images; "np": float (prompts, frames, height, width, 3), 0 to 1; "pt":
    (prompts, frames, 3, height, width), 0 to 1; "latent": (prompts, frames, c, h, w).
    trajectory: the source's, to be given again for other prompts.
    """

    frames: Any
    trajectory: Trajectory


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What the results are to show, and what not: an embedding each for every result.

    identity: what tells them from others.
    """

    targets: PromptEmbeddings
    negatives: PromptEmbeddings
    identity: Identity


class PnPVideoPipeline(Stages):
    """Plug-and-Play Diffusion Features (Tumanyan et al. 2022, arXiv 2211.12572) for video.

    Its components, and what is done to them, are those of diffusers' own pipelines (see `Parts`).
    """

    _callback_tensor_inputs = ("latents",)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        video: Video | None = None,
        *,
        image: Video | None = None,
        guidance_prompt: str | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        inversion_prompt: str = "",
        options: PnPOptions | None = None,
        preset: Preset | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | None = None,
        prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        trajectory: Trajectory | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        storage: Storage | None = None,
        job: JobFolder | None = None,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
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
        options: how; by default `model_options`. preset: how fast (see `PnPOptions.at`).
        changes: single options by their names in `PnPOptions` or in diffusers, such as
            num_inference_steps; they win over options and preset, None means: keep.
        height, width: the working size in pixels; by default the model's own area in the video's
            aspect ratio.
        generator: draws all noise, so a seed repeats a result.
        batch_size: frames in one pass of sampling, BRANCHES times as many in one of inversion;
            changes memory and time, not the result.
        storage: where and how precisely the trajectory is kept (see `Storage`).
        job: keeps the trajectory and every finished step, and goes on from there (see `JobFolder`).
            For that the generator must start the same.
        output_type: "pil", "np", "pt" or "latent" (see `PnPVideoPipelineOutput`); latents are not
            blended yet.
        callback_on_step_end: called as (pipeline, step, timestep, {"latents": ...}) with latents
            (prompts, frames, c, h, w); what it returns under "latents" replaces them.
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
        if not set(callback_on_step_end_tensor_inputs) <= set(self._callback_tensor_inputs):
            raise InputError("callback_on_step_end_tensor_inputs may only hold 'latents'")
        if (height is None) != (width is None):
            raise InputError("give both height and width, or neither")
        options = self._options(options, preset, changes)
        if generator is None:
            generator = torch.Generator()
            generator.seed()

        # 2. Embed the prompts
        prompts = self.prompts(
            prompt,
            negative_prompt,
            embeds=_given_embeddings(prompt_embeds, pooled_prompt_embeds),
            negative_embeds=_given_embeddings(
                negative_prompt_embeds, negative_pooled_prompt_embeds
            ),
        )

        # 3. Open the source
        source = self.open_source(
            video if trajectory is None else trajectory,
            guidance_prompt=guidance_prompt,
            inversion_prompt=inversion_prompt,
            size=None if width is None or height is None else (width, height),
            options=options,
            generator=generator,
            batch_size=batch_size,
            storage=storage,
            job=job,
        )

        # 4. Invert and denoise
        def after_step(step: int, timestep: float, latents: Tensor) -> Tensor:
            if callback_on_step_end is None:
                return latents
            given = {"latents": latents} if callback_on_step_end_tensor_inputs else {}
            changed = callback_on_step_end(self, step, timestep, given) or {}
            replaced: Tensor = changed.get("latents", latents)
            return replaced

        with closing(source):
            latents = self.sample(
                source,
                prompts,
                options,
                generator,
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

    def prompts(
        self,
        prompt: str | Sequence[str] | None,
        negative_prompt: str | Sequence[str] | None = None,
        *,
        embeds: PromptEmbeddings | None = None,
        negative_embeds: PromptEmbeddings | None = None,
    ) -> Prompts:
        """Prompts and negative prompts, as texts or as embeddings: one negative for all, or each.

        No negative prompt is the empty one. InputError where they do not fit together.
        """
        if (prompt is None) == (embeds is None):
            raise InputError("give either a prompt or prompt_embeds")
        if negative_prompt is None and negative_embeds is None:
            negative_prompt = ""
        check_negatives(_count(negative_prompt, negative_embeds), _count(prompt, embeds))
        targets = self._embeddings(prompt, embeds)
        negatives = self._embeddings(negative_prompt, negative_embeds)
        identity = {
            "prompt": _identity_of_texts(prompt, targets),
            "negative_prompt": _identity_of_texts(negative_prompt, negatives),
        }
        if len(negatives) == 1:
            negatives = concatenate([negatives] * len(targets))
        return Prompts(targets=targets, negatives=negatives, identity=identity)

    def sample(
        self,
        source: Source,
        prompts: Prompts,
        options: PnPOptions,
        generator: torch.Generator,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        job: JobFolder | None = None,
        after_step: AfterStep | None = None,
    ) -> Tensor:
        """Clean latents (prompts, frames, c, h, w) of the results.

        What is missing of the source's trajectory is inverted first. job: the one that the source
        was opened with.
        """
        trajectory, resume = source.trajectory, None
        if job is not None:
            seed = fingerprint.of_tensors([("generator", generator.get_state())])
            layers = fingerprint.of_values(asdict(self.layers))
            own = options.identity(Lifetime.INVERSION, Lifetime.SAMPLING)
            others = {"layers": layers, "seed": seed}
            resume = job.state(own | source.identity | prompts.identity | others)
        self.invert(source, options, batch_size=batch_size)
        inverted = trajectory.noise.to(self.latent_dtype)
        scenes, origins = self._scenes_and_origins(source, inverted, options, batch_size)
        noise = starting_noise(inverted, generator, options, scenes, origins)
        texts = Texts(
            source=self.encode_texts([trajectory.prompt]),
            targets=prompts.targets,
            negatives=prompts.negatives,
            unconditional=self.encode_texts([""]),
        )

        def keep(step: int, timestep: float, latents: Tensor) -> Tensor:
            if after_step is not None:
                latents = after_step(step, timestep, latents)
            check_finite(latents, "network", self.unet.dtype)
            if job is not None:
                now = generator.get_state()
                job.save(DenoisingState(steps=step + 1, latents=latents, generator=now))
            return latents

        count, done = len(noise), 0 if resume is None else resume.steps
        with (
            self._network() as network,
            self._bar("translating", count * options.steps, count * done) as bar,
        ):
            latents = denoise_latents(
                network,
                self.layers,
                self.schedule(options),
                trajectory,
                noise.expand(len(prompts.targets), *noise.shape),
                texts,
                options,
                generator,
                batch_size=batch_size,
                scenes=scenes,
                origins=origins,
                resume=resume,
                after_step=keep,
                progress=bar.update,
            )
        self.maybe_free_model_hooks()
        return latents

    def _scenes_and_origins(
        self, source: Source, inverted: Tensor, options: PnPOptions, batch_size: int
    ) -> tuple[Sequence[range], Tensor | None]:
        """The source's scenes, and how shared noise moves, as far as options ask for them."""
        count, height, width = len(inverted), *inverted.shape[-2:]
        shares = options.attention_sharing != "none" or options.noise_source == "keyframe"
        if count == 1 or not (shares or options.noise_motion):
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
            keywords = (*DIFFUSERS_NAMES, *signature(self.__call__).parameters)
            raise unknown_option(name, (*PnPOptions.model_fields, *keywords))
        return (base or self.model_options).at(preset).override(named)

    def _embeddings(
        self, texts: str | Sequence[str] | None, given: PromptEmbeddings | None
    ) -> PromptEmbeddings:
        if texts is not None:
            return self.encode_texts([texts] if isinstance(texts, str) else list(texts))
        assert given is not None
        if (given.pooled is None) != (self.text_encoder_2 is None):
            raise InputError("SDXL models, and only they, want pooled embeddings beside the others")
        return given.to(self._execution_device, self.unet.dtype)


def _given_embeddings(hidden: Tensor | None, pooled: Tensor | None) -> PromptEmbeddings | None:
    return None if hidden is None else PromptEmbeddings(hidden=hidden, pooled=pooled)


def _count(texts: str | Sequence[str] | None, embeddings: PromptEmbeddings | None) -> int:
    if texts is None:
        return 0 if embeddings is None else len(embeddings)
    return 1 if isinstance(texts, str) else len(texts)


def _output(clips: Sequence[Frames], output_type: str) -> Any:
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in frames] for frames in clips]
    stacked = np.stack(clips).astype(np.float32) / 255
    return stacked if output_type == "np" else torch.from_numpy(stacked).movedim(-1, -3)


def _identity_of_texts(texts: str | Sequence[str] | None, embeddings: PromptEmbeddings) -> str:
    """Of the texts, or of the embeddings where these were given in their place."""
    if texts is not None:
        return fingerprint.of_values(texts)
    named = {"hidden": embeddings.hidden, "pooled": embeddings.pooled}
    return fingerprint.of_tensors((k, v) for k, v in named.items() if v is not None)
