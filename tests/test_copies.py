"""Copies between a GPU and the host in the loops, for which it would wait; counted without a GPU.

The network is on the device "meta", which has no data, and everything else on the CPU. A copy to
the network's device can be counted, and a copy back, or a number read from a tensor, is an error.
"""

from collections import Counter
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pnpvideo.models.batches import Batches
from pnpvideo.models.noise_schedule import Level, NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.stable_diffusion.text_cache import text_cache
from pnpvideo.models.stable_diffusion.unet import UNet, default_layers
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.denoise import denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.invert import invert_latents
from pnpvideo.sampling.noised import noised
from pnpvideo.sampling.solvers import choose_solver
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

FRAMES = BATCH = 2
FEW, MANY = 2, 3
"""Steps of two runs, which differ by what one step copies."""


class Copies(TorchDispatchMode):
    """A count of operations with tensors of both devices, by the kind of operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
        if len(devices) > 1:
            self.counts[str(function)] += 1
        return result


@pytest.fixture(scope="module")
def network() -> UNet:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=8,
            cross_attention_dim=16,
            attention_head_dim=4,
            block_out_channels=(8, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            norm_num_groups=4,
            layers_per_block=1,
        ).eval()
    return UNet(unet, 8)


def schedule(steps: int) -> NoiseSchedule:
    times = tuple(float(time) for time in range(steps, 0, -1))
    alphas = (*((i + 1) / (steps + 2) for i in range(steps)), 1.0)
    levels = tuple(Level(signal_square=alpha, noise_square=1 - alpha) for alpha in alphas)
    return NoiseSchedule(
        timesteps=times,
        levels=levels,
        inversion_timesteps=times,
        inversion_levels=levels,
        prediction_type="epsilon",
    )


def text() -> PromptEmbeddings:
    return PromptEmbeddings(hidden=torch.empty(1, 7, 16, device="meta"))


def copies_of_inversion(network: UNet, steps: int) -> Counter[str]:
    latents = torch.zeros(FRAMES, 4, 8, 8, device="meta")
    with Copies() as seen, text_cache(network):
        invert_latents(
            network,
            schedule(steps),
            latents,
            text(),
            solver=choose_solver(2),
            batches=Batches(BATCH),
        )
    return seen.counts


def copies_of_sampling(network: UNet, options: PnPOptions) -> Counter[str]:
    """Copies until the last step is done; the result, which has no data, cannot be copied back."""
    levels = schedule(options.steps)
    clean = torch.zeros(len(levels.levels), FRAMES, 4, 8, 8)
    trajectory = Trajectory(latents=LatentMemory(clean), timesteps=levels.timesteps)
    if not options.inverts:
        trajectory = noised(trajectory, clean[0, 0], levels)
    texts = Texts(source=text(), targets=text(), negatives=text(), unconditional=text())
    done: list[int] = []
    with (
        Copies() as seen,
        text_cache(network),
        pytest.raises(NotImplementedError, match="no data"),
    ):
        denoise_latents(
            network,
            default_layers(network.unet),
            levels,
            trajectory,
            trajectory.latents[0, :][None],
            Guidance(texts, options),
            options,
            torch.Generator(),
            batch_size=BATCH,
            progress=done.append,
        )
    assert sum(done) == FRAMES * options.steps
    return seen.counts


@pytest.mark.parametrize(
    ("own", "each_step"),
    [
        # The source's latents, and the timestep of each pass.
        ({}, 3),
        ({"feature_level": 0.1, "start_from": "noised"}, 1),
        ({"tau_f": 0.0, "tau_a": 0.0}, 1),
    ],
)
def test_steps_copy_nothing_to_the_host_and_little_from_it(
    network: UNet, own: dict[str, Any], each_step: int
) -> None:
    few, many = (copies_of_sampling(network, PnPOptions(steps=n, **own)) for n in (FEW, MANY))
    assert many.total() - few.total() <= each_step, many - few


def test_inversion_copies_nothing_to_the_host_and_little_from_it(network: UNet) -> None:
    few, many = (copies_of_inversion(network, steps) for steps in (FEW, MANY))
    assert many.total() - few.total() <= 2, many - few  # The timestep, in two passes.
