"""The work of a run, counted: no pass is made that changes nothing."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from pnpvideo.models.network import Network
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.denoise import Texts, denoise_latents
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.schedule import NoiseSchedule
from pnpvideo.storage.trajectory import Trajectory

STEPS = 10  # At 50 the shares are the same.


@pytest.fixture(scope="module")
def network() -> Network:
    """The UNet of SD 1.5 without numbers: shapes are enough to count."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8
        ).eval()
    return Network(unet=unet, image_size=(512, 512))


def flops_of_a_pass(network: Network) -> int:
    latents, text = torch.empty(1, 4, 64, 64, device="meta"), texts(1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.predict(latents, 1, text, 1)
    return counter.get_total_flops()


def texts(count: int) -> PromptEmbeddings:
    return PromptEmbeddings(hidden=torch.empty(count, 77, 768, device="meta"))


def flops_of_a_run(network: Network, prompts: int) -> int:
    """One frame, inverted once for all prompts."""
    latents = torch.empty(STEPS + 1, 1, 4, 64, 64, device="meta")
    times = tuple(range(901, 0, -100))
    levels = tuple(0.1 * i + 0.05 for i in range(STEPS))
    schedule = NoiseSchedule(
        timesteps=times,
        alphas=(*levels, 1.0),
        inversion_timesteps=times,
        inversion_alphas=(*levels, 1.0),
        inversion_ratio=1,
        prediction_type="epsilon",
    )
    all_texts = Texts(
        source=texts(1), targets=texts(prompts), negatives=texts(prompts), unconditional=texts(1)
    )
    with (
        FlopCounterMode(display=False) as counter,
        network.keeping_text(),
        FeatureInjector(network.unet).installed() as injector,
    ):
        with torch.no_grad():
            # What inversion does, without its copies to the computer's memory.
            for time in times:
                network.predict(latents[0], time, all_texts.source, 1)
        denoise_latents(
            network,
            schedule,
            Trajectory(latents=latents, timesteps=times),
            latents[0].expand(prompts, -1, -1, -1, -1),
            all_texts,
            PnPOptions(steps=STEPS),
            injector,
            torch.Generator(),
            batch_size=1,
        )
    return counter.get_total_flops()


@pytest.mark.parametrize(("prompts", "share"), [(1, 0.88), (4, 0.58)])
def test_share_of_the_plain_methods_work(network: Network, prompts: int, share: float) -> None:
    one = flops_of_a_pass(network)
    assert one == pytest.approx(0.803e12, rel=0.01)
    # Inverted once a prompt, then source, negative and target branch at every step.
    plain = prompts * (STEPS + 3 * STEPS) * one
    ours = flops_of_a_run(network, prompts)
    print(f"{prompts} prompts: {ours / plain:.4f} of the plain method's work")
    assert ours / plain <= share
