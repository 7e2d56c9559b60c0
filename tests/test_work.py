"""The work of a run, counted: no pass is made that changes nothing."""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import Batch
from pnpvideo.models.noise_schedule import Level, NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.stable_diffusion.text_cache import text_cache
from pnpvideo.models.stable_diffusion.unet import UNet, default_layers
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.denoise import denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.invert import invert_latents
from pnpvideo.sampling.noised import noised
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

STEPS = 5  # At 50 the shares of all that is done in each step are the same.


@pytest.fixture(scope="module")
def network() -> UNet:
    """The UNet of SD 1.5 without numbers: shapes are enough to count."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8
        ).eval()
    return UNet(unet, 8)


def texts(count: int) -> PromptEmbeddings:
    return PromptEmbeddings(hidden=torch.empty(count, 77, 768, device="meta"))


@cache
def flops_of_reading(network: UNet) -> int:
    """One frame's features, queries and keys, in a pass that ends with the last of them."""
    batch = Batch(latents=torch.empty(1, 4, 64, 64, device="meta"), timestep=1, texts=texts(1))
    injector = FeatureInjector(network, default_layers(network.unet))
    with FlopCounterMode(display=False) as counter, torch.no_grad(), injector.installed():
        injector.read(batch, features=True, attention=True)
    return counter.get_total_flops()


@cache
def flops_of_a_pass(network: UNet) -> int:
    batch = Batch(latents=torch.empty(1, 4, 64, 64, device="meta"), timestep=1, texts=texts(1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.predict(batch)
    return counter.get_total_flops()


TIMES = tuple(range(801, 0, -200))
ALPHAS = (*(0.2 * i + 0.05 for i in range(STEPS)), 1.0)
LEVELS = tuple(Level(signal_square=alpha, noise_square=1 - alpha) for alpha in ALPHAS)
SCHEDULE = NoiseSchedule(
    timesteps=TIMES,
    levels=LEVELS,
    inversion_timesteps=TIMES,
    inversion_levels=LEVELS,
    prediction_type="epsilon",
)


ONE = NoiseSchedule(
    timesteps=TIMES[:1],
    levels=(LEVELS[0], LEVELS[-1]),
    inversion_timesteps=TIMES[:1],
    inversion_levels=(LEVELS[0], LEVELS[-1]),
    prediction_type="epsilon",
)
"""A single step."""


@cache
def flops_of_inversion(network: UNet) -> int:
    clean = torch.empty(1, 4, 64, 64, device="meta")
    with FlopCounterMode(display=False) as counter, text_cache(network):
        invert_latents(network, SCHEDULE, clean, texts(1), batches=Batches(1))
    return counter.get_total_flops()


@cache
def flops_of_sampling(
    network: UNet, prompts: int, options: PnPOptions, schedule: NoiseSchedule = SCHEDULE
) -> int:
    """One frame, with the latents that it has without an inversion, whatever the options say."""
    clean = torch.empty(1, 4, 64, 64, device="meta")
    kept = Trajectory(latents=LatentMemory(clean[None]), timesteps=())
    trajectory = noised(kept, clean[0], schedule)
    all_texts = Texts(
        source=texts(1), targets=texts(prompts), negatives=texts(prompts), unconditional=texts(1)
    )
    with FlopCounterMode(display=False) as counter, text_cache(network):
        denoise_latents(
            network,
            default_layers(network.unet),
            schedule,
            trajectory,
            trajectory.noise.expand(prompts, -1, -1, -1, -1),
            Guidance(all_texts, options),
            options,
            torch.Generator(),
            batch_size=1,
        )
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("prompts", "own", "share"),
    [
        (1, {}, 0.88),
        (4, {}, 0.58),
        (1, {"feature_level": 0.2}, 0.73),
        (1, {"feature_level": 0.2, "start_from": "noised"}, 0.48),
        (1, {"feature_level": 0.2, "start_from": "noised", "guidance_scale": 1.0}, 0.27),
    ],
)
def test_share_of_the_plain_methods_work(
    network: UNet, prompts: int, own: dict[str, Any], share: float
) -> None:
    one = flops_of_a_pass(network)
    assert one == pytest.approx(0.803e12, rel=0.01)
    # Inverted once a prompt, then source, negative and target branch at every step.
    plain = prompts * (STEPS + 3 * STEPS) * one
    options = PnPOptions(steps=STEPS, **own)
    ours = flops_of_sampling(network, prompts, options.override({"start_from": "noised"}))
    if options.start_from == "inverted":
        ours += flops_of_inversion(network)
    if options.feature_level < 1:
        # Read once in a run of 50 steps, a tenth of this run's share.
        ours -= round(0.9 * flops_of_reading(network))
    print(f"{prompts} prompts, {own}: {ours / plain:.4f} of the plain method's work")
    assert ours / plain <= share


def test_work_of_a_step_of_each_method(network: UNet) -> None:
    """In passes of one frame. Later steps reuse the texts' keys and values, which are computed."""
    one = flops_of_a_pass(network)
    for method, passes in (
        ("uniedit", 1.95),  # Two texts at one place are one up to the first layer with text.
        ("flowedit", 3.0),
        ("flowalign", 3.0),
    ):
        options = PnPOptions.of({"steps": 1, "method": method, "strength": 1.0})
        found = flops_of_sampling(network, 1, options, ONE)
        print(f"{method}: {found / one:.4f} passes")
        assert found / one <= passes + 1e-3
