"""Plug-and-Play sampling without our savings, for the benchmark to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.models.network import Network
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.denoise import Texts, first_steps
from pnpvideo.sampling.inject import FeatureInjector, InjectionLayers
from pnpvideo.sampling.schedule import NoiseSchedule, ddim_step
from pnpvideo.storage.trajectory import Trajectory


class PlainInjection:
    """The paper's self-attention: all branches' queries and keys are made, then overwritten."""

    def __init__(self, is_on: Callable[[], bool]) -> None:
        self.is_on = is_on

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, **_: Any
    ) -> Tensor:
        query, key, value = (to(hidden_states) for to in (attn.to_q, attn.to_k, attn.to_v))
        if self.is_on():
            query, key = (x[: len(x) // 3].repeat(3, 1, 1) for x in (query, key))
        heads = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, key, value))
        output = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        result: Tensor = attn.to_out[1](attn.to_out[0](output))
        return result


@contextmanager
def plain_injection(unet: Any, layers: InjectionLayers, state: dict[str, bool]) -> Iterator[None]:
    """Install the plain method; `state` says what is injected at the step."""
    modules = dict(unet.named_modules())
    before = unet.attn_processors
    places = FeatureInjector(unet, layers).attentions
    for attention in places:
        attention.set_processor(PlainInjection(lambda: state["attention"]))

    def replace(module: Any, inputs: Any, output: Tensor) -> Tensor:
        source = output[: len(output) // 3]
        return source.repeat(3, 1, 1, 1) if state["features"] else output

    hooks = [modules[name].conv2.register_forward_hook(replace) for name in layers.features]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        unet.set_attn_processor(dict(before))


@torch.no_grad()
def plain_denoise(
    network: Network,
    layers: InjectionLayers,
    schedule: NoiseSchedule,
    trajectory: Trajectory,
    texts: Texts,
    options: PnPOptions,
    batch_size: int,
) -> Tensor:
    """Three branches at every step, frame batch by frame batch."""
    steps, device = len(schedule.timesteps), network.device
    text = texts.branches(guided=True, scheduled=False)
    state = {"features": False, "attention": False}
    x = trajectory.noise.clone()
    with plain_injection(network.unet, layers, state):
        for i, timestep in enumerate(schedule.timesteps):
            state["features"] = i < first_steps(options.tau_f, steps)
            state["attention"] = i < first_steps(options.tau_a, steps)
            for part in torch.split(torch.arange(len(x)), batch_size):
                target = x[part].to(device)
                source = trajectory.latents[i, part].to(device)
                batch = torch.cat([source, target, target])
                output = network.predict(batch, timestep, text, len(part))
                _, negative, positive = output.chunk(3)
                prediction = negative + options.guidance_scale * (positive - negative)
                start, end = schedule.alphas[i : i + 2]
                x[part] = ddim_step(target, prediction, start, end, schedule.prediction_type).to(x)
    return x
