"""The pipeline: frames in, translated frames out, in numbered stages."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pnpvideo.clips.as_clip import Video, as_clip
from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.clips.read_ahead import read_ahead
from pnpvideo.clips.resize import resize_frames
from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import (
    encode_frames,
    frames_to_tensor,
    vae_factor,
    working_size,
)
from pnpvideo.models.batches import Batches
from pnpvideo.models.decode_latents import decode_latents, tensor_to_frames
from pnpvideo.models.load import default_device, default_dtype, load_model
from pnpvideo.models.network import InjectionLayers, Network
from pnpvideo.models.prompt import PromptEmbeddings, concatenate, encode_prompt
from pnpvideo.models.text_cache import text_cache
from pnpvideo.models.unet import UNet, default_layers
from pnpvideo.motion.blend import blend_frames
from pnpvideo.motion.flow import estimate_motion
from pnpvideo.motion.scenes import find_scenes
from pnpvideo.options.declared import unknown_option
from pnpvideo.options.method import (
    BRANCHES,
    DEFAULT_BATCH_SIZE,
    DIFFUSERS_NAMES,
    PnPOptions,
    Preset,
)
from pnpvideo.options.settings import EMBEDDED_MODEL, MachineSettings, check_negatives
from pnpvideo.sampling.denoise import denoise_latents, source_steps
from pnpvideo.sampling.guidance import Texts
from pnpvideo.sampling.invert import invert_latents, reconstruct_latents
from pnpvideo.sampling.noise import common_noise, gaussian_noise, noise_origins, share_noise
from pnpvideo.sampling.schedule import NoiseSchedule, make_schedule
from pnpvideo.storage import identity as fingerprint
from pnpvideo.storage.allocate import Storage, empty_trajectory
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


class PnPVideoPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Plug-and-Play Diffusion Features (Tumanyan et al. 2022, arXiv 2211.12572) for video.

    Its components are those of Stable Diffusion 1.x, 2.x or XL. `model_options` and `layers` hold
    what the model's `pnp.json` says; they are the paper's without one.
    """

    _optional_components = ("text_encoder_2", "tokenizer_2")
    _callback_tensor_inputs = ("latents",)
    model_cpu_offload_seq = "text_encoder->text_encoder_2->unet->vae"

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: Any,
        scheduler: Any,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
        force_zeros_for_empty_prompt: bool = False,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
        )
        self.register_to_config(force_zeros_for_empty_prompt=force_zeros_for_empty_prompt)
        channels = (unet.config.in_channels, unet.config.out_channels)
        if channels != (vae.config.latent_channels,) * 2:
            raise InputError(
                f"the UNet has {channels[0]} input and {channels[1]} output channels for "
                f"{vae.config.latent_channels} latent ones; give a text-to-image model "
                "(no inpainting, depth or pix2pix model)"
            )
        self.model_options = PnPOptions()
        self.layers = default_layers(unet)

    @classmethod
    def from_pretrained(
        cls,
        model: str = EMBEDDED_MODEL,
        *,
        torch_dtype: torch.dtype | None = None,
        loras: Sequence[str] = (),
        **options: Any,
    ) -> "PnPVideoPipeline":
        """Load "embedded", a diffusers folder, a hub id or a `.safetensors` checkpoint.

        torch_dtype: by default what suits the best device of this machine. loras: files to merge.
        options go to diffusers. Raises InputError or RunError (see `load_model`).
        """
        dtype = torch_dtype or default_dtype(default_device())
        loaded = load_model(model, dtype=dtype, loras=loras, **options)
        pipeline = cls(**loaded.components)
        pipeline.model_options = PnPOptions(**loaded.options)
        if loaded.layers:
            places = {name: tuple(modules) for name, modules in loaded.layers.items()}
            pipeline.layers = InjectionLayers(**places)
        return pipeline

    def save_pretrained(self, save_directory: str, **options: Any) -> None:
        """Write a diffusers folder, with the model's own options and layers beside the weights."""
        super().save_pretrained(save_directory, **options)
        own = {"options": self.model_options.plain(), "layers": asdict(self.layers)}
        Path(save_directory, "pnp.json").write_text(json.dumps(own, indent=2))

    # Stages of the main path, in order; `__call__` runs them all.

    def working_size(self, clip: Clip, wanted: tuple[int, int] | None = None) -> tuple[int, int]:
        """The (width, height) at which a clip goes through the model."""
        factor = vae_factor(self.vae)
        side = self.unet.config.sample_size * factor
        return working_size(clip.width, clip.height, side, factor, wanted)

    def encode_clip(self, clip: Clip, size: tuple[int, int], batch_size: int) -> Tensor:
        """Clean latents of all frames, (frames, c, h, w), in the computer's memory."""

        def encode(images: Tensor, part: slice) -> Tensor:
            return encode_frames(self.vae, images[part])

        batches = Batches(batch_size, self._cut_into_tiles)
        images = (
            frames_to_tensor(resize_frames(frames, *size)) for frames in clip.batches(batch_size)
        )
        return torch.cat(
            [
                latents.to("cpu", self._latent_dtype)
                for some in read_ahead(images)
                for latents in batches.run(len(some), partial(encode, some))
            ]
        )

    def encode_texts(self, texts: Sequence[str]) -> PromptEmbeddings:
        """Embeddings of texts, with this pipeline's one or two text encoders."""
        encoders = [(self.tokenizer, self.text_encoder)]
        if self.text_encoder_2 is not None:
            encoders.append((self.tokenizer_2, self.text_encoder_2))
        result = encode_prompt(texts, encoders, self._execution_device)
        if self.config.force_zeros_for_empty_prompt:
            empty = torch.tensor([text == "" for text in texts], device=result.hidden.device)
            result.hidden[empty] = 0
            if result.pooled is not None:
                result.pooled[empty] = 0
        return result

    def invert(
        self,
        latents: Tensor,
        size: tuple[int, int],
        options: PnPOptions,
        *,
        prompt: str = "",
        batch_size: int = DEFAULT_BATCH_SIZE,
        into: Trajectory | None = None,
    ) -> Trajectory:
        """The trajectory of clean latents (frames, c, h, w) under an inversion prompt.

        into: where to keep it, some frames perhaps being there already; by default in memory.
        """
        schedule = self._schedule(options)
        if into is None:
            into = empty_trajectory(
                latents.shape, schedule.timesteps, prompt, Storage(place="memory"), latents.dtype
            )
        text = self.encode_texts([prompt])
        each = len(schedule.inversion_timesteps) * options.inversion_iterations
        at_once = BRANCHES * batch_size
        parts = into.unfinished(at_once)
        missing = sum(part.stop - part.start for part in parts)
        batches = Batches(at_once)
        with (
            self._network() as network,
            self._bar("inverting", len(latents) * each, (len(latents) - missing) * each) as bar,
        ):
            for part in parts:
                inverted = invert_latents(
                    network,
                    schedule,
                    latents[part],
                    text,
                    iterations=options.inversion_iterations,
                    batches=batches,
                    progress=bar.update,
                )
                into.write(part.start, inverted)
        return into

    def generate_source(
        self,
        prompt: str,
        size: tuple[int, int],
        options: PnPOptions,
        generator: torch.Generator,
    ) -> Trajectory:
        """A source of one frame made by the model, its sampling trajectory kept (section 4)."""
        schedule, factor = self._schedule(options), vae_factor(self.vae)
        shape = (1, self.unet.config.in_channels, size[1] // factor, size[0] // factor)
        noise = gaussian_noise(shape, generator, torch.empty((), dtype=self._latent_dtype))
        with (
            self._network() as network,
            self._bar("generating the source", len(schedule.timesteps)) as bar,
        ):
            latents = reconstruct_latents(
                network,
                schedule,
                noise,
                self.encode_texts(["", prompt]),
                guidance_scale=options.guidance_scale,
                batches=Batches(1),
                progress=bar.update,
            )
        return Trajectory(latents=latents, timesteps=schedule.timesteps, prompt=prompt)

    def reconstruct(
        self,
        trajectory: Trajectory,
        size: tuple[int, int],
        options: PnPOptions,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> Tensor:
        """Clean latents (frames, c, h, w) sampled back from z_T: what the inversion kept."""
        schedule = self._schedule(options)
        text = self.encode_texts([trajectory.prompt])
        noise = trajectory.noise.to(self._latent_dtype)
        clean = torch.empty_like(noise)
        at_once = BRANCHES * batch_size
        batches = Batches(at_once)
        with (
            self._network() as network,
            self._bar("reconstructing", len(noise) * len(schedule.timesteps)) as bar,
        ):
            for first in range(0, len(noise), at_once):
                # A batch at a time: all steps of all frames would be as large as the trajectory.
                part = slice(first, first + at_once)
                clean[part] = reconstruct_latents(
                    network,
                    schedule,
                    noise[part],
                    text,
                    batches=batches,
                    progress=bar.update,
                )[-1]
        return clean

    def decode(self, latents: Tensor, batch_size: int = DEFAULT_BATCH_SIZE) -> Iterator[Frames]:
        """Latents (frames, c, h, w) to uint8 frames (n, height, width, 3), a batch at a time."""

        def decode(part: slice) -> Frames:
            return tensor_to_frames(decode_latents(self.vae, latents[part]))

        return Batches(batch_size, self._cut_into_tiles).run(len(latents), decode)

    def decode_clip(
        self,
        latents: Tensor,
        trajectory: Trajectory,
        clip: Clip | None,
        blend_radius: int,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> Iterator[Frames]:
        """The frames of one result, (frames, c, h, w), blended along the motion of its source.

        trajectory, clip: the source's; without a clip the trajectory is decoded for its motion.
        Gives uint8 frames (n, height, width, 3) of the working size, some at a time.
        """
        frames = self.decode(latents, batch_size)
        if len(latents) == 1:
            return frames
        read_source = self._source_frames(clip, trajectory, batch_size)
        return blend_frames(frames, read_source, blend_radius)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        video: Video | None = None,
        *,
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
        video: the source (see `Video`). Or guidance_prompt: the model makes the source itself.
            Or trajectory, from an earlier output.
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
            blended yet, which `decode_clip` does.
        callback_on_step_end: called as (pipeline, step, timestep, {"latents": ...}) with latents
            (prompts, frames, c, h, w); what it returns under "latents" replaces them.
        Raises InputError (a ValueError) for what cannot be used, before any work is done.
        """
        # 1. Check what was given
        if (video is not None) + (guidance_prompt is not None) + (trajectory is not None) != 1:
            raise InputError("give exactly one of video, guidance_prompt and trajectory")
        if (prompt is None) == (prompt_embeds is None):
            raise InputError("give either a prompt or prompt_embeds")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise InputError(f"output_type is {output_type!r}; give pil, np, pt or latent")
        MachineSettings.check("batch_size", batch_size)
        if not set(callback_on_step_end_tensor_inputs) <= set(self._callback_tensor_inputs):
            raise InputError("callback_on_step_end_tensor_inputs may only hold 'latents'")
        if (height is None) != (width is None):
            raise InputError("give both height and width, or neither")
        options = self._options(options, preset, changes)
        wanted = None if width is None or height is None else (width, height)
        if generator is None:
            generator = torch.Generator()
            generator.seed()

        # 2. Embed the texts
        targets = self._embeddings(prompt, prompt_embeds, pooled_prompt_embeds)
        if negative_prompt is None and negative_prompt_embeds is None:
            negative_prompt = ""
        negatives = self._embeddings(
            negative_prompt, negative_prompt_embeds, negative_pooled_prompt_embeds
        )
        check_negatives(len(negatives), len(targets))
        if len(negatives) == 1:
            negatives = concatenate([negatives] * len(targets))

        # 3. The source's trajectory: inverted, generated, or given, and what a job has of it
        source: Identity = {}
        seed = fingerprint.of_tensors([("generator", generator.get_state())])
        clip = None if video is None else as_clip(video)
        if clip is not None:
            size = self.working_size(clip, wanted)
            storage = storage or Storage()
            if job is not None:
                source = self._identity_of_source(
                    fingerprint.of_clip(clip, batch_size), size, options, inversion_prompt, storage
                )
            trajectory = self._room(clip, size, options, inversion_prompt, storage, job, source)
        elif guidance_prompt is not None:
            side = self.unet.config.sample_size * vae_factor(self.vae)
            factor = vae_factor(self.vae)
            size = working_size(side, side, side, factor, wanted)
            trajectory = self.generate_source(guidance_prompt, size, options, generator)
        assert trajectory is not None
        size = self._size_of(trajectory)
        schedule = self._schedule(options)
        if trajectory.timesteps != schedule.timesteps:
            raise InputError(
                f"the trajectory has {len(trajectory.timesteps)} timesteps that are not the "
                f"{options.steps} of this run; use the steps and the model it was made with"
            )
        resume = None
        if job is not None:
            if clip is None:
                ends = [("noise", trajectory.noise), ("clean", trajectory.clean)]
                made = fingerprint.of_tensors(ends)
                source = self._identity_of_source(made, size, options, trajectory.prompt, storage)
            resume = job.state(
                {name: str(value) for name, value in options.plain().items()}
                | source
                | {
                    "prompt": _identity_of_texts(prompt, targets),
                    "negative_prompt": _identity_of_texts(negative_prompt, negatives),
                    "layers": fingerprint.of_values(asdict(self.layers)),
                    "seed": seed,
                }
            )
        if clip is not None and trajectory.unfinished(batch_size):
            self.invert(
                self.encode_clip(clip, size, batch_size),
                size,
                options,
                prompt=inversion_prompt,
                batch_size=batch_size,
                into=trajectory,
            )

        # 4. Scenes, motion, and the target's starting noise
        inverted = trajectory.noise.to(self._latent_dtype)
        scenes: tuple[range, ...] = (range(len(inverted)),)
        origins = None
        from_keyframe = options.noise_source == "keyframe"
        shares = options.attention_sharing != "none"
        read = self._source_frames(clip, trajectory, batch_size)
        if len(inverted) > 1 and (shares or options.noise_motion or from_keyframe):
            scenes = find_scenes(read())
        if len(inverted) > 1 and options.noise_motion:
            height, width = inverted.shape[-2:]
            motion = estimate_motion(read(), width, height)
            origins = noise_origins(motion, scenes, (height, width))
        common = common_noise(inverted, generator, origins, scenes if from_keyframe else ())
        noise = share_noise(inverted, common, options.noise_share, independent=not from_keyframe)
        start = noise.expand(len(targets), *noise.shape)

        # 5. Denoise, with the source's features injected
        texts = Texts(
            source=self.encode_texts([trajectory.prompt]),
            targets=targets,
            negatives=negatives,
            unconditional=self.encode_texts([""]),
        )

        def after_step(step: int, timestep: float, latents: Tensor) -> Tensor:
            if callback_on_step_end is not None:
                given = {"latents": latents} if callback_on_step_end_tensor_inputs else {}
                changed = callback_on_step_end(self, step, timestep, given) or {}
                latents = changed.get("latents", latents)
            if job is not None:
                now = generator.get_state()
                job.save(DenoisingState(steps=step + 1, latents=latents, generator=now))
            return latents

        count, done = start.shape[1], 0 if resume is None else resume.steps
        with (
            self._network() as network,
            self._bar("translating", count * options.steps, count * done) as bar,
        ):
            latents = denoise_latents(
                network,
                self.layers,
                schedule,
                trajectory,
                start,
                texts,
                options,
                generator,
                batch_size=batch_size,
                scenes=scenes,
                origins=origins,
                resume=resume,
                after_step=after_step,
                progress=bar.update,
            )

        # 6. Decode, and blend along the source's motion
        if output_type == "latent":
            frames = latents
        else:
            clips = (
                self.decode_clip(one, trajectory, clip, options.blend_radius, batch_size)
                for one in latents
            )
            frames = _output([np.concatenate(list(some)) for some in clips], output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return frames, trajectory
        return PnPVideoPipelineOutput(frames=frames, trajectory=trajectory)

    def _options(
        self, base: PnPOptions | None, preset: Preset | None, changes: Mapping[str, object]
    ) -> PnPOptions:
        """The options of a call. InputError for a keyword that no call has."""
        named = {DIFFUSERS_NAMES.get(name, name): value for name, value in changes.items()}
        for name in named.keys() - PnPOptions.model_fields.keys():
            keywords = (*DIFFUSERS_NAMES, *signature(self.__call__).parameters)
            raise unknown_option(name, (*PnPOptions.model_fields, *keywords))
        return (base or self.model_options).at(preset).override(named)

    def _cut_into_tiles(self) -> None:
        warnings.warn(
            "the memory is not enough for a whole frame in the autoencoder; frames are cut into "
            "overlapping tiles there",
            stacklevel=2,
        )
        if isinstance(self.vae, AutoencoderTiny):
            # diffusers takes its factor for 8 whatever it is.
            self.vae.spatial_scale_factor = vae_factor(self.vae)
            self.vae.tile_latent_min_size = self.vae.tile_sample_min_size // vae_factor(self.vae)
        self.vae.enable_tiling()

    @property
    def _latent_dtype(self) -> torch.dtype:
        return torch.float64 if self.unet.dtype == torch.float64 else torch.float32

    def _schedule(self, options: PnPOptions) -> NoiseSchedule:
        return make_schedule(self.scheduler.config, options.steps, options.inversion_step_count)

    @contextmanager
    def _network(self) -> Iterator[Network]:
        network = UNet(self.unet, vae_factor(self.vae))
        with text_cache(network):
            yield network

    def _size_of(self, trajectory: Trajectory) -> tuple[int, int]:
        factor = vae_factor(self.vae)
        return trajectory.latents.shape[-1] * factor, trajectory.latents.shape[-2] * factor

    def _source_frames(
        self, clip: Clip | None, trajectory: Trajectory, batch_size: int
    ) -> Callable[[], Iterator[Frames]]:
        """Reads the source at its working size, in batches; without a clip it is decoded."""
        if clip is None:
            return lambda: self.decode(trajectory.clean, batch_size)
        size = self._size_of(trajectory)
        return lambda: (resize_frames(frames, *size) for frames in clip.batches(batch_size))

    def _room(
        self,
        clip: Clip,
        size: tuple[int, int],
        options: PnPOptions,
        prompt: str,
        storage: Storage,
        job: JobFolder | None,
        source: Identity,
    ) -> Trajectory:
        """Where the trajectory of a clip goes; in a job some or all of it may be there."""
        factor = vae_factor(self.vae)
        frames = (len(clip), self.unet.config.in_channels, size[1] // factor, size[0] // factor)
        timesteps, dtype = self._schedule(options).timesteps, self._latent_dtype
        if job is not None:
            return job.trajectory(source, frames, timesteps, prompt, storage.dtype(dtype))
        steps = source_steps(options)
        return empty_trajectory(frames, timesteps, prompt, storage, dtype, steps_read=steps)

    def _identity_of_source(
        self,
        made_of: str,
        size: tuple[int, int],
        options: PnPOptions,
        prompt: str,
        storage: Storage | None,
    ) -> Identity:
        """What an inversion belongs to; the batch size and the device change only its rounding."""
        model = fingerprint.of_modules(self.vae, self.unet, self.text_encoder, self.text_encoder_2)
        dtype = (storage or Storage()).dtype(self._latent_dtype)
        return {
            "source": made_of,
            "size": f"{size[0]}x{size[1]}",
            "model": fingerprint.of_values(model, self.config.force_zeros_for_empty_prompt),
            "steps": str(options.steps),
            "inversion_steps": str(options.inversion_step_count),
            "inversion_iterations": str(options.inversion_iterations),
            "schedule": fingerprint.of_values(asdict(self._schedule(options))),
            "inversion_prompt": prompt,
            "trajectory_precision": str(dtype).removeprefix("torch."),
        }

    def _bar(self, what: str, total: int, done: int = 0) -> Any:
        """A progress bar, some of whose work an earlier run has done."""
        return tqdm(
            total=total,
            initial=done,
            desc=what,
            unit=" frame-steps",
            **getattr(self, "_progress_bar_config", {}),
        )

    def _embeddings(
        self, texts: str | Sequence[str] | None, hidden: Tensor | None, pooled: Tensor | None
    ) -> PromptEmbeddings:
        if texts is not None:
            return self.encode_texts([texts] if isinstance(texts, str) else list(texts))
        assert hidden is not None
        if (pooled is None) != (self.text_encoder_2 is None):
            raise InputError("SDXL models, and only they, want pooled embeddings beside the others")
        given = PromptEmbeddings(hidden=hidden, pooled=pooled)
        return given.to(self._execution_device, self.unet.dtype)


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
