"""The stages of the main path, each by itself, with the parts of one model."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import tee
from typing import NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from pnpvideo.clips.as_clip import Video, as_clip
from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import frames_to_tensor, tensor_to_frames, working_size
from pnpvideo.models.batches import Batches
from pnpvideo.models.device import exact_dtype
from pnpvideo.models.failures import check_finite, check_not_plain
from pnpvideo.models.network import Network
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.models.scheduler import check_scheduler
from pnpvideo.models.stable_diffusion.controlnet import Control, ControlledUNet
from pnpvideo.models.stable_diffusion.ip_adapter import scales_of
from pnpvideo.models.stable_diffusion.schedule import make_schedule
from pnpvideo.models.stable_diffusion.text_cache import text_cache
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.options.method import BRANCHES, DEFAULT_BATCH_SIZE, Lifetime, PnPOptions
from pnpvideo.options.settings import check_followed
from pnpvideo.pixels.blend import blend_frames
from pnpvideo.pixels.carry_mask import carry_mask
from pnpvideo.pixels.control import check_control, control_frames, draw_control
from pnpvideo.pixels.cut_out_maps import mask_of_maps
from pnpvideo.pixels.mask import (
    Area,
    Weights,
    check_feather,
    check_mask,
    composite,
    feathered,
    mask_frames,
    weights_of,
)
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.sampling.denoise import source_steps
from pnpvideo.sampling.find_named import attention_maps
from pnpvideo.sampling.invert import invert_latents, reconstruct_latents
from pnpvideo.sampling.keep_outside import latent_weights
from pnpvideo.sampling.noise import gaussian_noise
from pnpvideo.sampling.schedule import first_steps
from pnpvideo.sampling.solvers import choose_solver
from pnpvideo.sampling.spans import widened
from pnpvideo.stages.parts import Parts
from pnpvideo.stages.source import ClipSource, Source, TrajectorySource, fingerprint_of
from pnpvideo.storage import fingerprint
from pnpvideo.storage.allocate import Storage, empty_trajectory
from pnpvideo.storage.job_folder import Identity, JobFolder
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

_log = logging.getLogger(__name__)


class Stages(Parts):
    """What is done with a model's parts.

    bars: the kind of progress bar that tells how far it is.
    """

    bars: "type[tqdm[NoReturn]]" = tqdm

    @property
    def latent_dtype(self) -> torch.dtype:
        return exact_dtype(self.unet.dtype)

    def schedule(self, options: PnPOptions) -> NoiseSchedule:
        """The noise levels of a run. InputError where the scheduler has none that are for us."""
        check_scheduler(self.scheduler)
        return make_schedule(self.scheduler.config, options.steps, options.inversion_step_count)

    def working_size(
        self, clip: Clip | None, wanted: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """The (width, height) at which a clip, or what the model makes, goes through the model."""
        factor = self.autoencoder.factor
        side = self.unet.config.sample_size * factor
        width, height = (side, side) if clip is None else (clip.width, clip.height)
        return working_size(width, height, side, factor, wanted)

    def open_source(
        self,
        given: Video | Trajectory | None = None,
        *,
        area: Area | None = None,
        control_image: Clip | None = None,
        guidance_prompt: str | None = None,
        inversion_prompt: str = "",
        size: tuple[int, int] | None = None,
        options: PnPOptions,
        generator: torch.Generator | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        storage: Storage | None = None,
        job: JobFolder | None = None,
    ) -> Source:
        """The source of a run: of a video, a trajectory of an earlier run, or made by the model.

        area: what is edited of it; None: all. control_image: what the ControlNet follows, else
        options.control says it. size: (width, height); by default the model's own area. A video is
        not inverted yet, which `sample` does, as it finds the mask. The rest is as in a call.
        InputError for what cannot be used.
        """
        storage, schedule = storage or Storage(), self.schedule(options)
        self._check_control(options, control_image, made=given is None)
        if area is not None and area.mask is None and not self.words_of(area.named):
            raise InputError(
                f"mask_from_prompt is {area.named!r}, which names nothing; name what the source "
                "shows"
            )
        if given is not None and not isinstance(given, Trajectory):
            clip = as_clip(given)
            _check_beside(area, control_image, (clip.width, clip.height), len(clip))
            size = self.working_size(clip, size)
            check_feather(area, size)
            source: Source = ClipSource(clip, size, storage, batch_size)
            frames = self.autoencoder.latents_shape(len(clip), source.size)
            source.area, source.control_image = area, control_image
            timesteps, dtype = schedule.timesteps, self.latent_dtype
            if job is None:
                steps = source_steps(options) if area is None else None
                source.trajectory = empty_trajectory(
                    frames, timesteps, inversion_prompt, storage, dtype, steps_read=steps
                )
            else:
                source.identity = self._identity(source, options, inversion_prompt, storage)
                source.trajectory = job.trajectory(
                    source.identity, frames, timesteps, inversion_prompt, storage.dtype(dtype)
                )
            return source
        if given is None:
            assert guidance_prompt is not None
            assert generator is not None
            size = self.working_size(None, size)
            check_feather(area, size)
            given = self.generate_source(guidance_prompt, size, options, generator)
        if given.timesteps != schedule.timesteps:
            raise InputError(
                f"the trajectory has {len(given.timesteps)} timesteps that are not the "
                f"{options.steps} of this run; use the steps and the model it was made with"
            )
        source = TrajectorySource(
            given,
            self.autoencoder.size_of(given.latents.shape),
            storage,
            lambda: self.decode(given.clean, batch_size),
        )
        _check_beside(area, control_image, source.size, given.latents.shape[1])
        source.area, source.control_image = area, control_image
        if job is not None:
            source.identity = self._identity(source, options, given.prompt, storage)
        return source

    def encode_source(self, prompt: str, options: PnPOptions) -> PromptEmbeddings:
        """The embedding of what a source shows; as nothing it is read whole, as in a negative."""
        skip = options.clip_skip if prompt else 0
        return self.encode_texts([prompt], skip, weights=options.prompt_weights)

    def encode(self, source: Source, batch_size: int, span: range | None = None) -> Tensor:
        """Clean latents of all frames, or a span: (frames, c, h, w), in the computer's memory."""

        def encode(images: Tensor, part: slice) -> Tensor:
            return self.autoencoder.encode(images[part]).to("cpu", self.latent_dtype)

        batches = Batches(batch_size, self._cut_into_tiles)
        encoded = [
            latents
            for images in map(frames_to_tensor, source.frames(batch_size, span))
            for latents in batches.run(len(images), partial(encode, images))
        ]
        return torch.cat(encoded)

    def invert(
        self,
        source: Source,
        options: PnPOptions,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        span: range | None = None,
    ) -> None:
        """Complete the trajectory of a source, or of a span of its frames, under its inversion
        prompt.
        """
        count = source.trajectory.latents.shape[1]
        # In the batches that all frames together have, as others would be rounded otherwise.
        span = widened(span or range(count), BRANCHES * batch_size, count)
        if source.trajectory.unfinished(batch_size, span):
            latents = self.encode(source, batch_size, span)
            control = self.find_control(source, options, batch_size=batch_size)
            self.invert_into(
                source.trajectory,
                latents,
                options,
                batch_size=batch_size,
                control=control,
                first=span.start,
            )

    def invert_into(
        self,
        trajectory: Trajectory,
        latents: Tensor,
        options: PnPOptions,
        *,
        batch_size: int,
        control: Control | None = None,
        first: int = 0,
    ) -> None:
        """Complete a trajectory, some frames perhaps being there, from clean latents of those
        from number `first` on.
        """
        span = range(first, first + len(latents))
        schedule, text = self.schedule(options), self.encode_source(trajectory.prompt, options)
        solver = choose_solver(options.inversion_iterations)
        each = len(schedule.inversion_timesteps) * solver.predictions
        at_once = BRANCHES * batch_size
        left = trajectory.unfinished(at_once, span)
        done = len(latents) - sum(part.stop - part.start for part in left)
        batches = Batches(at_once)
        with (
            self._network(control) as network,
            self._bar("inverting", len(latents) * each, done * each) as bar,
        ):
            for part in left:
                inverted = invert_latents(
                    network,
                    schedule,
                    latents[part.start - first : part.stop - first],
                    text,
                    solver=solver,
                    batches=batches,
                    first=part.start,
                    progress=bar.update,
                )
                check_finite(inverted, "network", self.unet.dtype)
                trajectory.write(part.start, inverted)

    def find_control(
        self, source: Source, options: PnPOptions, *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Control | None:
        """What the ControlNet follows of a source, read or drawn where it is not there yet.

        None where it follows nothing.
        """
        image, kind = source.control_image, options.control
        if image is not None:
            pictures = control_frames(image, source.size, batch_size)
        elif kind is not None:
            pictures = (draw_control(frames, kind) for frames in source.frames(batch_size))
        else:
            return None
        if source.control is None:
            store = source.store(3)
            for _ in store.write_all(pictures):
                pass
            source.control = store
        first_without = first_steps(options.control_end, options.steps)
        return Control(
            pictures=source.control.of,
            scale=options.control_scale,
            rests_at=self.schedule(options).timestep_from(first_without),
        )

    def _check_control(self, options: PnPOptions, image: Clip | None, *, made: bool) -> None:
        """InputError where a ControlNet is missing, or cannot follow. made: by the model itself."""
        if options.control is None and image is None:
            return
        check_followed(None, options.control, image)
        if self.controlnet is None:
            raise InputError(
                "there is no ControlNet that follows control or control_image; give one "
                "(controlnet)"
            )
        if made:
            raise InputError(
                "a source that the model makes follows no ControlNet; leave out control"
            )
        if self.controlnet.dtype != self.unet.dtype:
            raise InputError(
                f"the ControlNet is in {self.controlnet.dtype} and the UNet in {self.unet.dtype}; "
                "load both in one precision"
            )

    def find_mask(
        self, source: Source, options: PnPOptions, *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Tensor | None:
        """Find `source.mask` by its area, and the same for latents, (frames, 1, h, w), 0 to 1.

        None where all is edited. The source is inverted. InputError where a text names nothing.
        """
        area = source.area
        if area is None:
            return None
        if area.mask is None:
            pixels = self._find_named(source, area.named, options, batch_size)
        elif area.moves and len(area.mask) == 1:
            (first,) = resize_frames(weights_of(area.mask.read(0, 1)), *source.size)
            pixels = carry_mask(first, source.frames(batch_size), source.scenes)
        else:
            pixels = mask_frames(
                area.mask, source.trajectory.latents.shape[1], source.size, batch_size
            )
        if area.inverted:
            pixels = (255 - batch for batch in pixels)
        source.mask = source.store()
        whole, cut = tee(pixels)
        # The one is read as the other is, a batch at a time.
        kept = source.mask.write_all(feathered(batch, area.feather) for batch in cut)
        both = (batch for batch, _ in zip(whole, kept, strict=True))
        return latent_weights(both, self.autoencoder.factor)

    def _find_named(
        self, source: Source, name: str, options: PnPOptions, batch_size: int
    ) -> Iterator[Weights]:
        """Where each frame shows what a text names, some frames at a time."""
        text, words = self.encode_texts([name], options.clip_skip), self.words_of(name)
        control = self.find_control(source, options, batch_size=batch_size)
        with self._network(control) as network:
            trajectory = source.trajectory
            maps = attention_maps(
                network, trajectory, text, words, batch_size=batch_size, spread=True
            )
            arrays = (batch.numpy() for batch in maps)
            yield from mask_of_maps(arrays, source.frames(batch_size), name)

    def generate_source(
        self,
        prompt: str,
        size: tuple[int, int],
        options: PnPOptions,
        generator: torch.Generator,
    ) -> Trajectory:
        """A source of one frame made by the model, its sampling trajectory kept (section 4)."""
        schedule, texts = self.schedule(options), ["", prompt]
        weights = options.prompt_weights
        text = self.encode_texts(texts, weights=weights)
        if options.clip_skip:
            skipped = self.encode_texts(texts, options.clip_skip, weights=weights)
            text = concatenate([text.first, skipped.rest])
        shape = self.autoencoder.latents_shape(1, size)
        noise = gaussian_noise(shape, generator, torch.empty((), dtype=self.latent_dtype))
        with (
            self._network() as network,
            self._bar("generating the source", len(schedule.timesteps)) as bar,
        ):
            latents = reconstruct_latents(
                network,
                schedule,
                noise,
                text,
                guidance_scale=options.guidance_scale,
                batches=Batches(1),
                progress=bar.update,
            )
        return Trajectory(
            latents=LatentMemory(latents), timesteps=schedule.timesteps, prompt=prompt
        )

    def reconstruct(
        self,
        trajectory: Trajectory,
        options: PnPOptions,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        control: Control | None = None,
    ) -> Tensor:
        """Clean latents (frames, c, h, w) sampled back from z_T: what the inversion kept.

        control: that of the inversion.
        """
        schedule = self.schedule(options)
        text = self.encode_source(trajectory.prompt, options)
        noise = trajectory.noise.to(self.latent_dtype)
        clean = torch.empty_like(noise)
        at_once = BRANCHES * batch_size
        batches = Batches(at_once)
        with (
            self._network(control) as network,
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
                    first=first,
                    progress=bar.update,
                )[-1]
        return clean

    def decode(self, latents: Tensor, batch_size: int = DEFAULT_BATCH_SIZE) -> Iterator[Frames]:
        """Latents (frames, c, h, w) to uint8 frames (n, height, width, 3), a batch at a time."""

        def decode(part: slice) -> Frames:
            return tensor_to_frames(self.autoencoder.decode(latents[part]))

        return Batches(batch_size, self._cut_into_tiles).run(len(latents), decode)

    def finish(
        self,
        latents: Tensor,
        source: Source,
        blend_radius: int,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> Iterator[Frames]:
        """The frames of one result, (frames, c, h, w), blended along the motion of its source, and
        put into the source where only a part of it is edited.

        Gives uint8 frames (n, height, width, 3) of the working size, some at a time. RunError where
        they are no picture (see `check_not_plain`).
        """

        def encode(frames: Frames) -> Tensor:
            return self.autoencoder.encode(frames_to_tensor(frames))

        frames = check_not_plain(
            self.decode(latents, batch_size),
            latents,
            lambda: source.frames(batch_size),
            encode,
            self.vae.dtype,
        )
        if len(latents) > 1 and blend_radius > 0:
            frames = blend_frames(frames, source.frames(batch_size), source.scenes, blend_radius)
        if source.mask is None:
            return frames
        return composite(frames, source.frames(batch_size), source.mask.batches(batch_size))

    def _identity(
        self, source: Source, options: PnPOptions, prompt: str, storage: Storage
    ) -> Identity:
        """What an inversion belongs to; the batch size and the device change only its rounding."""
        model = fingerprint.of_modules(self.vae, self.unet, self.text_encoder, self.text_encoder_2)
        dtype = storage.dtype(self.latent_dtype)
        if self.has_ip_adapter:
            none = self.beside_image(self.encode_texts([""])).image
            assert none is not None
            model += fingerprint.of_tensors([("image", none)])
        control = {}
        if options.control is not None or source.control_image is not None:
            control["controlnet"] = fingerprint.of_modules(self.controlnet)
        if source.control_image is not None:
            control["control_image"] = fingerprint_of(source.control_image)
        return {
            "source": source.fingerprint,
            "size": f"{source.size[0]}x{source.size[1]}",
            "model": fingerprint.of_values(
                model,
                self.config.force_zeros_for_empty_prompt,
                *((layer.active_adapters, layer.scaling) for layer in self.lora_layers),
                *scales_of(self.unet),
                # Which of the vectors in the text encoder belongs to which.
                *self.own_words,
            ),
            "schedule": fingerprint.of_values(asdict(self.schedule(options))),
            "inversion_prompt": prompt,
            "trajectory_precision": str(dtype).removeprefix("torch."),
            **options.identity(Lifetime.INVERSION),
            **control,
        }

    def _cut_into_tiles(self) -> None:
        _log.warning(
            "the memory is not enough for a whole frame in the autoencoder; frames are cut into "
            "overlapping tiles there"
        )
        self.autoencoder.use_tiles()

    @contextmanager
    def _network(self, control: Control | None = None) -> Iterator[Network]:
        network = self.network(control)
        with text_cache(network):
            yield network

    def network(self, control: Control | None = None) -> Network:
        """The UNet, with the ControlNet beside it where that follows something."""
        if control is None:
            return UNet(self.unet, self.autoencoder.factor)
        assert self.controlnet is not None
        return ControlledUNet(self.unet, self.autoencoder.factor, self.controlnet, control)

    def _bar(self, what: str, total: int, done: int = 0) -> "tqdm[NoReturn]":
        """A progress bar, some of whose work an earlier run has done."""
        own = {"total": total, "initial": done, "desc": what, "unit": " frame-steps"}
        return self.bars(**own | getattr(self, "_progress_bar_config", {}))


def _check_beside(
    area: Area | None, control_image: Clip | None, size: tuple[int, int], frame_count: int
) -> None:
    """InputError where a mask or a control picture does not fit frames of this (width, height)."""
    if area is not None and area.mask is not None:
        check_mask(area.mask, size, frame_count)
    if control_image is not None:
        check_control(control_image, size, frame_count)
