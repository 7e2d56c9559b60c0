"""Plug-and-Play sampling without this package's savings, as the benchmark's baseline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import Batch, InjectionLayers, SelfAttention
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.sampling.attend import attend, split_heads
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.invert import invert_latents
from pnpvideo.sampling.schedule import ddim_step, first_steps
from pnpvideo.sampling.solvers import choose_solver
from pnpvideo.storage.trajectory import LatentMemory, Trajectory


@contextmanager
def plain_injection(
    network: UNet, layers: InjectionLayers, state: dict[str, bool]
) -> Iterator[None]:
    """Keep the plain method installed; `state` says what is injected at the step."""
    injector = FeatureInjector(network, layers)
    with ExitStack() as stack:
        for layer in injector.attentions:
            stack.enter_context(layer.replaced(partial(_attend, layer, state)))
        for block in injector.blocks:
            stack.enter_context(block.changed(lambda x: x, partial(_repeat_source, state)))
        yield


def _attend(layer: SelfAttention, state: dict[str, bool], tokens: Tensor) -> Tensor:
    """Compute the paper's self-attention: all queries and keys are made, then overwritten."""
    query, key, value = layer.query(tokens), layer.key(tokens), layer.value(tokens)
    if state["attention"]:
        query, key = (x[: len(x) // 3].repeat(3, 1, 1) for x in (query, key))
    heads = (split_heads(x, layer.heads) for x in (query, key, value))
    return layer.project(attend(*heads))


def _repeat_source(state: dict[str, bool], output: Tensor) -> Tensor:
    return output[: len(output) // 3].repeat(3, 1, 1, 1) if state["features"] else output


@torch.no_grad()
def plain_invert(
    pipeline: PnPVideoPipeline, latents: Tensor, options: PnPOptions, prompt: str, batch_size: int
) -> Trajectory:
    """Invert in batches of frames of the size that all three branches have in sampling."""
    schedule = pipeline.schedule(options)
    inverted = invert_latents(
        UNet(pipeline.unet, pipeline.model.autoencoder.factor),
        schedule,
        latents,
        pipeline.encode_texts([prompt]),
        solver=choose_solver(options.inversion_iterations),
        batches=Batches(batch_size),
    )
    kept = LatentMemory(inverted)
    return Trajectory(latents=kept, timesteps=schedule.timesteps, prompt=prompt)


@torch.no_grad()
def plain_denoise(
    pipeline: PnPVideoPipeline,
    trajectory: Trajectory,
    options: PnPOptions,
    prompt: str,
    negative_prompt: str,
    batch_size: int,
) -> Tensor:
    """Denoise three branches at every step in batches of frames. Return (frames, c, h, w)."""
    schedule, network = (
        pipeline.schedule(options),
        UNet(pipeline.unet, pipeline.model.autoencoder.factor),
    )
    steps, device = len(schedule.timesteps), network.device
    text = pipeline.encode_texts([trajectory.prompt, negative_prompt, prompt])
    state = {"features": False, "attention": False}
    x = trajectory.noise.clone()
    with plain_injection(network, pipeline.layers, state):
        for i, timestep in enumerate(schedule.timesteps):
            state["features"] = i < first_steps(options.tau_f, steps)
            state["attention"] = i < first_steps(options.tau_a, steps)
            for part in torch.split(torch.arange(len(x)), batch_size):
                target = x[part].to(device)
                source = trajectory.latents[i, part].to(device)
                batch = torch.cat([source, target, target])
                output = network.predict(Batch(latents=batch, timestep=timestep, texts=text))
                _, negative, positive = output.chunk(3)
                prediction = negative + options.guidance_scale * (positive - negative)
                start, end = schedule.levels[i : i + 2]
                x[part] = ddim_step(target, prediction, start, end, schedule.prediction_type).to(x)
    return x
