"""The naive reference agrees with diffusers where diffusers has the same thing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, UNet2DConditionModel
from reference_pnp import (
    Added,
    Features,
    Prediction,
    alphas_cumprod,
    ddim_invert,
    injected_steps,
    negative_weight,
    plain_ddim,
    pnp_sample,
    pnp_sample_clip,
    timesteps,
    tiny_sdxl_unet,
    tiny_unet,
    unet_forward,
)
from torch import Tensor

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def noise(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def far(x: Tensor, y: Tensor) -> float:
    return float((x - y).norm() / y.norm())


def sdxl_added(seed: int) -> Added:
    ids = torch.tensor([[128.0, 96.0, 0.0, 8.0, 128.0, 96.0]], dtype=torch.float64)
    return {"text_embeds": noise(seed, 1, 12), "time_ids": ids}


MODELS: dict[str, tuple[Callable[[], UNet2DConditionModel], Added | None]] = {
    "sd1": (tiny_unet, None),
    "sd2": (lambda: tiny_unet("v_prediction"), None),
    "sdxl": (tiny_sdxl_unet, sdxl_added(3)),
}
COUNTS = {"sd1": 8, "sd2": 8, "sdxl": 2 * 3 + 3 * 2}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> tuple[str, UNet2DConditionModel, Added | None]:
    build, added = MODELS[request.param]
    return request.param, build(), added


def test_forward_equals_diffusers(model: tuple[str, UNet2DConditionModel, Any]) -> None:
    _, unet, added = model
    z, text = noise(1, 1, 4, 16, 8), noise(2, 1, 5, 12)
    for t in (1, 481, 981):
        ours = unet_forward(unet, z, t, text, added=added)
        assert far(ours, unet(z, t, text, added_cond_kwargs=added).sample) < 1e-10


def test_own_features_change_nothing(model: tuple[str, UNet2DConditionModel, Any]) -> None:
    name, unet, added = model
    z, text = noise(1, 1, 4, 8, 8), noise(2, 1, 5, 12)
    features: Features = {}
    plain = unet_forward(unet, z, 481, text, record=features, added=added)
    assert len(features) == 1 + 2 * COUNTS[name]
    assert torch.equal(unet_forward(unet, z, 481, text, inject=features, added=added), plain)


def test_injection_equals_hooks_on_diffusers(model: tuple[str, UNet2DConditionModel, Any]) -> None:
    _, unet, added = model
    z, x, text = noise(1, 1, 4, 8, 8), noise(4, 1, 4, 8, 8), noise(2, 1, 5, 12)
    features: Features = {}
    unet_forward(unet, z, 481, text, record=features, added=added)
    plain = unet_forward(unet, x, 481, text, added=added)
    first = "up_blocks.1.resnets.1" if len(unet.up_blocks) == 4 else "up_blocks.0.resnets.1"
    modules = dict(unet.named_modules())
    for use_f, use_qk in ((True, False), (False, True), (True, True)):
        hooks = []
        for key, value in features.items():
            if use_f if key == "f" else use_qk:
                place = f"{first}.conv2" if key == "f" else f"{key[:-1]}to_{key[-1]}"
                # The hook must replace what diffusers computed, so nothing of it is kept.
                hook = modules[place].register_forward_hook(lambda m, i, o, value=value: value)
                hooks.append(hook)
        theirs = unet(x, 481, text, added_cond_kwargs=added).sample
        flags = {"inject_f": use_f, "inject_qk": use_qk}
        # Hooks are still on: the reference does not see them.
        assert torch.equal(unet_forward(unet, x, 481, text, added=added), plain)
        for hook in hooks:
            hook.remove()
        ours = unet_forward(unet, x, 481, text, inject=features, added=added, **flags)
        assert far(ours, theirs) < 1e-10
        assert far(ours, plain) > 2e-3


def test_outputs_are_of_order_one_and_vary(model: tuple[str, UNet2DConditionModel, Any]) -> None:
    _, unet, added = model
    z, text = noise(1, 1, 4, 8, 8), noise(2, 1, 5, 12)
    out = unet_forward(unet, z, 481, text, added=added)
    assert 0.3 < float(out.std()) < 5
    assert far(unet_forward(unet, z, 481, noise(5, 1, 5, 12), added=added), out) > 0.05
    assert far(unet_forward(unet, z, 461, text, added=added), out) > 0.01
    if added is not None:
        assert far(unet_forward(unet, z, 481, text, added=sdxl_added(6)), out) > 0.05


def test_weights_follow_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (
        u.conv_in.weight for u in (tiny_unet(seed=1), tiny_unet(seed=1), tiny_unet())
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_schedule_equals_diffusers() -> None:
    scheduler = DDIMScheduler(**SCHEDULER)
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), alphas_cumprod(), rtol=1e-5, atol=0
    )
    for steps in (1, 3, 7, 50):
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == timesteps(steps)
    assert timesteps(50)[:2] + timesteps(50)[-1:] == [981, 961, 1]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_inversion_equals_diffusers(prediction: Prediction) -> None:
    unet, text = tiny_unet(prediction), noise(2, 1, 5, 12)
    scheduler = DDIMInverseScheduler(prediction_type=prediction, **SCHEDULER)
    table = scheduler.alphas_cumprod.double()
    scheduler.alphas_cumprod, scheduler.initial_alpha_cumprod = table, table[0]
    scheduler.set_timesteps(5)
    z = noise(1, 1, 4, 8, 8)
    ours = ddim_invert(unet, z, text, 5, prediction, alphas=table)
    assert list(ours) == timesteps(5)[::-1] == scheduler.timesteps.tolist()
    for t in scheduler.timesteps.tolist():
        z = scheduler.step(unet(z, t, text).sample, t, z).prev_sample
        assert far(ours[t], z) < 1e-10


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sampling_equals_diffusers(prediction: Prediction, eta: float) -> None:
    unet, text = tiny_unet(prediction), noise(2, 1, 5, 12)
    scheduler = DDIMScheduler(prediction_type=prediction, **SCHEDULER)
    table = scheduler.alphas_cumprod.double()
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = table, table[0]
    scheduler.set_timesteps(5)
    x, noises = noise(1, 1, 4, 8, 8), [noise(10 + i, 1, 4, 8, 8) for i in range(5)]
    settings: dict[str, Any] = {"steps": 5, "prediction": prediction, "eta": eta}
    ours = plain_ddim(unet, x, text, step_noise=noises, alphas=table, **settings)
    for i, t in enumerate(timesteps(5)):
        out = unet(x, t, text).sample
        x = scheduler.step(out, t, x, eta=eta, variance_noise=noises[i]).prev_sample
        assert far(ours[i], x) < 1e-10


def test_steps_and_weights() -> None:
    assert [injected_steps(tau, 50) for tau in (0.0, 0.5, 0.8, 1.0)] == [0, 25, 40, 50]
    assert [injected_steps(tau, 5) for tau in (0.1, 0.5, 0.6)] == [0, 2, 3]
    assert injected_steps(0.29, 100) == 29
    for schedule in ("constant", "linear", "exp"):
        assert (
            negative_weight(0, 1, 0.75, schedule) == negative_weight(0, 5, 0.75, schedule) == 0.75
        )
    assert negative_weight(4, 5, 1.0, "linear") == 0.0
    assert negative_weight(2, 5, 1.0, "linear") == 0.5
    assert negative_weight(2, 5, 1.0, "exp") == pytest.approx(torch.exp(torch.tensor(-3.0)).item())


def test_limits_of_pnp() -> None:
    """The special cases of the equations must hold for any network."""
    unet = tiny_unet()
    source, target, negative, empty = (noise(20 + i, 1, 5, 12) for i in range(4))
    trajectory = ddim_invert(unet, noise(1, 1, 4, 8, 8), source, 4, "epsilon")
    x_T = trajectory[timesteps(4)[0]]  # noqa: N806 - the paper's name
    base: dict[str, Any] = {"steps": 4, "prediction": "epsilon"}

    def pnp(*texts: Tensor, **changes: Any) -> list[Tensor]:
        default = {"guidance_scale": 7.5, "tau_f": 0.8, "tau_a": 0.5}
        return pnp_sample(unet, trajectory, x_T, *texts, **(base | default | changes))

    off = pnp(source, target, negative, tau_f=0.0, tau_a=0.0, guidance_scale=1.0)
    for ours, plain in zip(off, plain_ddim(unet, x_T, target, **base), strict=True):
        assert far(ours, plain) < 1e-10
    on = pnp(source, target, negative)
    for changes in ({"tau_f": 0.0}, {"tau_a": 0.0}, {"tau_a": 0.75}, {"guidance_scale": 5.0}):
        assert far(pnp(source, target, negative, **changes)[-1], on[-1]) > 1e-3
    assert torch.equal(pnp(source, target, negative, tau_f=0.9)[-1], on[-1])  # still 3 of 4 steps

    none = pnp(source, target, negative, empty, alpha=1.0)
    assert far(none[-1], pnp(source, target, empty)[-1]) < 1e-10
    full = pnp(source, target, negative, empty, alpha=0.0)
    assert far(full[-1], on[-1]) < 1e-10
    for schedule in ("linear", "exp"):
        some = pnp(source, target, negative, empty, schedule=schedule)
        assert far(some[0], none[0]) < 1e-12
        assert far(some[-1], none[-1]) > 1e-3

    texts = (source, target, negative)
    settings = base | {"guidance_scale": 7.5, "tau_f": 0.8, "tau_a": 0.5}
    clip = pnp_sample_clip(unet, [trajectory] * 2, [x_T, -x_T], *texts, **settings)
    assert [len(frame) for frame in clip] == [4, 4]
    assert torch.equal(clip[0][-1], on[-1])
    assert not torch.equal(clip[1][-1], on[-1])


def test_sdxl_samples() -> None:
    unet = tiny_sdxl_unet()
    source, target, negative = ((noise(20 + i, 1, 5, 12), sdxl_added(30 + i)) for i in range(3))
    trajectory = ddim_invert(unet, noise(1, 1, 4, 8, 8), source, 2, "epsilon")
    settings: dict[str, Any] = {"steps": 2, "tau_f": 0.5, "tau_a": 0.5, "guidance_scale": 3.0}
    start = trajectory[timesteps(2)[0]]
    xs = pnp_sample(
        unet, trajectory, start, source, target, negative, prediction="epsilon", **settings
    )
    assert len(xs) == 2
    assert all(torch.isfinite(x).all() for x in xs)
