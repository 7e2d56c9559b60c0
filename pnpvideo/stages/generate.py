"""Lets the model generate a source from a text (Tumanyan et al. 2022, section 4)."""

import torch

from pnpvideo.models.batches import Batches
from pnpvideo.models.model import Model, Size
from pnpvideo.models.prompt import concatenate
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.invert import reconstruct_latents
from pnpvideo.sampling.noise import gaussian_noise
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.storage.trajectory import LatentMemory, Trajectory


def generate_source(
    model: Model,
    prompt: str,
    size: Size,
    options: PnPOptions,
    generator: torch.Generator,
    callbacks: Callbacks,
) -> Trajectory:
    """Sample one piece from noise, and keep its latents at all noise levels."""
    schedule, texts = model.schedule(options, size), ["", prompt]
    weights = options.prompt_weights
    text = model.encode_texts(texts, weights=weights)
    if options.clip_skip:
        skipped = model.encode_texts(texts, options.clip_skip, weights=weights)
        text = concatenate([text.first, skipped.rest])
    if text.guidance is not None:
        text = text.rest.with_guidance(options.guidance_scale)
    shape = model.autoencoder.latents_shape(1, size)
    noise = gaussian_noise(shape, generator, torch.empty((), dtype=model.latent_dtype))
    with (
        model.network() as network,
        callbacks.bar("generating the source", len(schedule.timesteps)) as bar,
    ):
        latents = reconstruct_latents(
            network,
            schedule,
            noise,
            text,
            guidance_scale=options.guidance_scale,
            guidance_scale_2=options.guidance_scale_2,
            boundary=model.boundary,
            rescaled=model.rescaled,
            batches=Batches(1),
            window=model.window,
            progress=bar.update,
        )
    return Trajectory(latents=LatentMemory(latents), timesteps=schedule.timesteps, prompt=prompt)
