"""Features, queries and keys of a source as tensors, for work of one's own."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pnpvideo.clips.as_clip import Video, as_clip
from pnpvideo.errors import InputError
from pnpvideo.models.network import Batch, Network, SelfAttention
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, PnPOptions
from pnpvideo.run.opening import Loaded, model_of
from pnpvideo.sampling.attend import split_heads
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.latents import at_all_levels
from pnpvideo.stages.prompts import embed_source_prompt
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.trajectory import Trajectory

ByStep = Mapping[int, Tensor]
_Kind = Literal["features", "queries", "keys"]
_Place = tuple[_Kind, str]
"""A kind of tensors, and the name of a layer."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The values that a network computed for a source, by the name of a layer, then by step.

    Steps are numbered as in sampling: 0 is the noisiest.

    Attributes:
        features: The residual features that are injected: (frames, channels, height, width).
        queries: Of self-attention: (frames, heads, tokens, channels of a head).
        keys: The same.
        timesteps: What the network was given at each step.
        trajectory: The source's latents at all noise levels, to be given again.
    """

    features: Mapping[str, ByStep]
    queries: Mapping[str, ByStep]
    keys: Mapping[str, ByStep]
    timesteps: Mapping[int, float]
    trajectory: Trajectory


@torch.no_grad()
def record_features(
    pipeline: Loaded,
    source: Video | Trajectory,
    *,
    features: Sequence[str] | None = None,
    attentions: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    inversion_prompt: str = "",
    size: tuple[int, int] | None = None,
    options: PnPOptions | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> Recorded:
    """Return the features, queries and keys that a network makes of a source.

    The source is inverted, and read under its inversion prompt at the noise levels of sampling:
    these are the tensors that the method injects.

    Args:
        pipeline: A loaded pipeline or `Model`.
        source: A path, a `Clip`, PIL images, arrays or tensors; or the trajectory of an earlier
            call, which saves the inversion.
        features: Names of residual blocks, such as "up_blocks.1.resnets.1"; by default those that
            the model injects.
        attentions: Names of modules with self-attention, such as "up_blocks.1.attentions.1"; by
            default those that the model injects. The layers of a module with several are named
            "up_blocks.2[0]", "up_blocks.2[1]" and so on.
        steps: Numbers of sampling steps, from 0 (the noisiest); by default all.
        inversion_prompt: Describes the source; '' as in the paper.
        size: The working (width, height) in pixels; by default the model's own area.
        options: How the source is inverted, in how many steps; by default the model's.
        batch_size: Frames in one pass.

    Returns:
        The tensors, in the computer's memory.

    Raises:
        InputError: For layers or steps that there are not, and for sources that cannot be used.
    """
    model = model_of(pipeline)
    options = options or model.defaults
    chosen = _checked(steps, options.steps)
    names = model.layers.features if features is None else features
    modules = model.layers.attentions if attentions is None else attentions
    request = Edit(
        source=source if isinstance(source, Trajectory) else as_clip(source),
        inversion_prompt=inversion_prompt,
        size=size,
        options=options,
        generators=seeded(0),
        batch_size=batch_size,
        keep="all",
    )
    with model.network() as network:
        _watch(network, names, modules, {}).close()  # Refuses layers that there are not.
    opened = OpenEdit(model, request, QUIET)
    try:
        opened.invert()
        read = at_all_levels(model, opened.source, options)
        text = embed_source_prompt(model, read.prompt, options)
        kept: dict[_Place, dict[int, Tensor]] = {}
        with model.network(opened.control) as network:
            for step in chosen:
                for place, tensor in _read(network, read, step, text, names, modules, batch_size):
                    kept.setdefault(place, {})[step] = tensor
    finally:
        opened.close_frames()

    def of(kind: _Kind) -> Mapping[str, ByStep]:
        return {name: by_step for (one, name), by_step in kept.items() if one == kind}

    return Recorded(
        features=of("features"),
        queries=of("queries"),
        keys=of("keys"),
        timesteps={step: read.timesteps[step] for step in chosen},
        trajectory=opened.source.trajectory,
    )


def _checked(steps: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return the numbers of steps, by default of all. InputError for others."""
    chosen = tuple(range(count)) if steps is None else tuple(steps)
    for step in chosen:
        if type(step) is not int or not 0 <= step < count:
            raise InputError(f"steps holds {step!r}; give whole numbers from 0 to {count - 1}")
    return chosen


def _read(
    network: Network,
    trajectory: Trajectory,
    step: int,
    text: PromptEmbeddings,
    names: Sequence[str],
    modules: Sequence[str],
    batch_size: int,
) -> list[tuple[_Place, Tensor]]:
    """Return the tensors of all frames at a step's noise level."""
    parts: dict[_Place, list[Tensor]] = {}
    for first in range(0, trajectory.piece_count, batch_size):
        pieces = range(first, min(first + batch_size, trajectory.piece_count))
        batch = Batch(
            latents=trajectory.latents[step, list(pieces)].to(network.device),
            timestep=trajectory.timesteps[step],
            texts=text,
            pieces=tuple(pieces),
        )
        seen: dict[_Place, Tensor] = {}
        with _watch(network, names, modules, seen):
            network.predict(batch)
        for place, tensor in seen.items():
            parts.setdefault(place, []).append(tensor.cpu())
    return [(place, torch.cat(some)) for place, some in parts.items()]


def _watch(
    network: Network, names: Sequence[str], modules: Sequence[str], seen: dict[_Place, Tensor]
) -> ExitStack:
    """Record a pass in `seen` within the context. InputError for layers that there are not."""
    with ExitStack() as stack:
        for name in names:
            hook = _keep_feature(name, seen)
            stack.enter_context(network.feature(name).changed(lambda tensor: tensor, hook))
        for name in modules:
            layers = network.attentions(name)
            if not layers:
                raise InputError(f"{name!r} has no self-attention")
            for number, layer in enumerate(layers):
                own = name if len(layers) == 1 else f"{name}[{number}]"
                stack.enter_context(layer.watched(_keep_attention(own, layer, seen)))
        return stack.pop_all()


def _keep_feature(name: str, seen: dict[_Place, Tensor]) -> Callable[[Tensor], Tensor]:
    def keep(output: Tensor) -> Tensor:
        seen["features", name] = output
        return output

    return keep


def _keep_attention(
    name: str, layer: SelfAttention, seen: dict[_Place, Tensor]
) -> Callable[[Tensor], None]:
    def keep(tokens: Tensor) -> None:
        seen["queries", name] = split_heads(layer.query(tokens), layer.heads)
        seen["keys", name] = split_heads(layer.key(tokens), layer.heads)

    return keep
