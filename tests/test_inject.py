"""Injection leaves no trace, takes place by rule, and refuses what it cannot do."""

from dataclasses import replace
from typing import Any

import pytest
import reference_pnp as reference
import torch
from diffusers import UNet2DConditionModel

from pnpvideo.catalogue.find_model import EMBEDDED
from pnpvideo.errors import InputError
from pnpvideo.models.network import InjectionLayers
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.stable_diffusion.unet import UNet, default_layers
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.passes import InjectedBatch, Sharing, plan_shared
from pnpvideo.sampling.skip_alike import skip_alike
from pnpvideo.sampling.skip_source import skip_source


def injector_of(unet: UNet2DConditionModel) -> FeatureInjector:
    return FeatureInjector(UNet(unet, 8), default_layers(unet))


def batch(branches: int = 2, frames: int = 1, **options: Any) -> InjectedBatch:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(branches * frames, 4, 8, 8, generator=generator, dtype=torch.float64)
    text = torch.randn(branches, 5, 12, generator=generator, dtype=torch.float64)
    return InjectedBatch(latents=z, timestep=401, texts=PromptEmbeddings(hidden=text), **options)


def output(unet: UNet2DConditionModel) -> torch.Tensor:
    return UNet(unet, 8).predict(batch())


INJECTED = batch(with_source=True, features=True, attention=True)


def assert_untouched(unet: UNet2DConditionModel, before: torch.Tensor, processors: Any) -> None:
    assert torch.equal(output(unet), before)
    assert unet.attn_processors == processors
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())


def test_after_removal_the_output_is_bit_identical() -> None:
    unet = reference.tiny_unet()
    before, processors = output(unet), dict(unet.attn_processors)
    injector = injector_of(unet)
    with injector.installed():
        assert not torch.equal(injector.predict(INJECTED), before[1:])
    assert_untouched(unet, before, processors)


def test_sharing_leaves_no_trace_either() -> None:
    unet = reference.tiny_unet()
    before, processors = output(unet), dict(unet.attn_processors)
    injector = injector_of(unet)
    (frame_pass,) = plan_shared((range(2),), (0, 1), window=2, step=0, batch_size=1)
    with injector.installed(sharing=True):
        assert sum(p not in processors.values() for p in unet.attn_processors.values()) == 16
        torch.testing.assert_close(injector.predict(batch()), before, rtol=1e-12, atol=1e-12)
        shared = batch(
            branches=1, frames=2, sharing=Sharing(mode="extended", frame_pass=frame_pass)
        )
        alone = injector.predict(replace(shared, sharing=None))
        assert not torch.allclose(injector.predict(shared), alone)
    assert_untouched(unet, before, processors)


def test_without_sharing_no_other_layer_is_touched() -> None:
    unet = reference.tiny_unet()
    processors, injector = dict(unet.attn_processors), injector_of(unet)
    (frame_pass,) = plan_shared((range(1),), (0,), window=2, step=0, batch_size=1)
    with injector.installed():
        changed = {name for name, p in unet.attn_processors.items() if p != processors[name]}
        assert len(changed) == 8
        sharing = Sharing(mode="extended", frame_pass=frame_pass)
        with pytest.raises(RuntimeError, match="not installed for sharing"):
            injector.predict(replace(INJECTED, sharing=sharing))


def test_layers_that_share_can_be_named() -> None:
    unet = reference.tiny_unet()
    layers = replace(default_layers(unet), shared=("up_blocks.1", "mid_block"))
    assert len(FeatureInjector(UNet(unet, 8), layers).shared) == 4


def test_an_error_inside_also_removes_everything() -> None:
    unet = reference.tiny_unet()
    before, processors, injector = output(unet), dict(unet.attn_processors), injector_of(unet)
    with pytest.raises(KeyError), injector.installed(), skip_alike(injector.network):
        raise KeyError
    assert_untouched(unet, before, processors)


def test_a_pass_that_fails_is_no_longer_under_way() -> None:
    injector = injector_of(reference.tiny_unet())
    broken = replace(INJECTED, latents=torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    with injector.installed(), pytest.raises(RuntimeError):
        injector.predict(broken)
    assert injector.network.batch is None


def test_installed_but_idle_it_changes_nothing() -> None:
    unet = reference.tiny_unet()
    before, injector = output(unet), injector_of(unet)
    with injector.installed():
        torch.testing.assert_close(output(unet), before, rtol=1e-12, atol=1e-12)


def test_a_second_installation_raises() -> None:
    injector = injector_of(reference.tiny_unet())
    with injector.installed(), pytest.raises(RuntimeError, match="already"):
        injector.installed().__enter__()
    with injector.installed():
        pass


def test_the_source_itself_is_not_changed_by_its_own_features() -> None:
    unet = reference.tiny_unet()
    before, injector = output(unet), injector_of(unet)
    with injector.installed():
        source = injector.network.predict(INJECTED)[:1]
    torch.testing.assert_close(source, before[:1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("attention", [False, True])
def test_what_saves_work_changes_no_result(features: bool, attention: bool) -> None:
    """The source as far as it is read, and branches of equal latents as one."""
    injector = injector_of(reference.tiny_unet())
    full = batch(
        5,
        2,
        with_source=True,
        features=features,
        attention=attention,
        branches_with_equal_latents=2,
    )
    latents = full.latents.view(5, 2, 4, 8, 8)
    latents[2], latents[4] = latents[1], latents[3]
    with injector.installed():
        plain = injector.predict(full)
        assert plain.shape == (8, 4, 8, 8)
        with skip_alike(injector.network):
            saved = skip_source(injector)(full)
    torch.testing.assert_close(saved, plain, rtol=1e-10, atol=1e-10)


def test_the_rule_finds_the_papers_layers() -> None:
    layers = default_layers(reference.tiny_unet())
    assert layers.features == ("up_blocks.1.resnets.1",)
    expected = [(1, 1), (1, 2), *((b, i) for b in (2, 3) for i in range(3))]
    assert layers.attentions == tuple(f"up_blocks.{b}.attentions.{i}" for b, i in expected)
    assert len(injector_of(reference.tiny_unet()).attentions) == 8


def test_the_rule_suits_sdxl_with_its_many_transformer_blocks() -> None:
    unet = reference.tiny_sdxl_unet()
    assert default_layers(unet).features == ("up_blocks.0.resnets.1",)
    assert len(injector_of(unet).attentions) == 2 * 3 + 3 * 2


def test_the_rule_suits_the_embedded_model() -> None:
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED, subfolder="unet")
    assert default_layers(unet).features == ("up_blocks.1.resnets.1",)
    assert injector_of(unet).attentions


@pytest.mark.parametrize(
    ("features", "attentions", "message"),
    [
        ("up_blocks.9.resnets.0", "up_blocks.2", "no module 'up_blocks.9"),
        ("up_blocks.1.attentions.0", "up_blocks.2", "not a residual block"),
        ("up_blocks.1.resnets.1", "up_blocks.0", "no self-attention"),
    ],
)
def test_wrong_layers_are_named(features: str, attentions: str, message: str) -> None:
    layers = InjectionLayers(features=(features,), attentions=(attentions,))
    with pytest.raises(InputError, match=message):
        FeatureInjector(UNet(reference.tiny_unet(), 8), layers)
