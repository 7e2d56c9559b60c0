"""Injection leaves no trace, takes place by rule, and refuses what it cannot do."""

from dataclasses import replace

import pytest
import reference_pnp as reference
import torch
from diffusers import UNet2DConditionModel

from pnpvideo.errors import InputError
from pnpvideo.models.load import EMBEDDED
from pnpvideo.sampling.attend import Sharing
from pnpvideo.sampling.inject import FeatureInjector, InjectionLayers, default_layers
from pnpvideo.sampling.passes import Pass, plan_shared


def output(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64)
    text = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)
    return unet(z, 401, text).sample


def test_after_removal_the_output_is_bit_identical() -> None:
    unet = reference.tiny_unet()
    before, processors = output(unet), dict(unet.attn_processors)
    injector = FeatureInjector(unet)
    with injector.installed(), injector.injecting(1, features=True, attention=True):
        assert not torch.equal(output(unet), before)
    assert torch.equal(output(unet), before)
    assert unet.attn_processors == processors
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())


def test_sharing_leaves_no_trace_either() -> None:
    unet = reference.tiny_unet()
    before, processors = output(unet), dict(unet.attn_processors)
    injector = FeatureInjector(unet)
    (work,) = plan_shared((range(2),), (0, 1), window=2, step=0, batch_size=1)
    with injector.installed(sharing=True):
        assert sum(p not in processors.values() for p in unet.attn_processors.values()) == 16
        torch.testing.assert_close(output(unet), before, rtol=1e-12, atol=1e-12)
        sharing = Sharing(mode="extended", work=work)
        with injector.injecting(2, features=False, attention=False, source=False, sharing=sharing):
            assert not torch.allclose(output(unet), before)
    assert torch.equal(output(unet), before)
    assert unet.attn_processors == processors
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())


def test_without_sharing_no_other_layer_is_touched() -> None:
    unet = reference.tiny_unet()
    processors, injector = dict(unet.attn_processors), FeatureInjector(unet)
    with injector.installed():
        changed = {name for name, p in unet.attn_processors.items() if p != processors[name]}
        assert len(changed) == 8
        sharing = Sharing(mode="extended", work=Pass(frames=(0,)))
        with pytest.raises(RuntimeError, match="not installed for sharing"):
            injector.injecting(1, features=True, attention=True, sharing=sharing).__enter__()


def test_layers_that_share_can_be_named() -> None:
    unet = reference.tiny_unet()
    layers = replace(default_layers(unet), shared=("up_blocks.1", "mid_block"))
    assert len(FeatureInjector(unet, layers).shared) == 4


def test_an_error_inside_also_removes_everything() -> None:
    unet = reference.tiny_unet()
    before = output(unet)
    with pytest.raises(KeyError), FeatureInjector(unet).installed():
        raise KeyError
    assert torch.equal(output(unet), before)


def test_installed_but_idle_it_changes_nothing() -> None:
    unet = reference.tiny_unet()
    before = output(unet)
    with FeatureInjector(unet).installed():
        torch.testing.assert_close(output(unet), before, rtol=1e-12, atol=1e-12)


def test_a_second_installation_raises() -> None:
    injector = FeatureInjector(reference.tiny_unet())
    with injector.installed(), pytest.raises(RuntimeError, match="already"):
        injector.installed().__enter__()
    with injector.installed():
        pass


def test_the_source_itself_is_not_changed_by_its_own_features() -> None:
    unet = reference.tiny_unet()
    before, injector = output(unet), FeatureInjector(unet)
    with injector.installed(), injector.injecting(1, features=True, attention=True):
        torch.testing.assert_close(output(unet)[:1], before[:1], rtol=1e-10, atol=1e-10)


def test_the_rule_finds_the_papers_layers() -> None:
    layers = default_layers(reference.tiny_unet())
    assert layers.features == ("up_blocks.1.resnets.1",)
    expected = [(1, 1), (1, 2), *((b, i) for b in (2, 3) for i in range(3))]
    assert layers.attentions == tuple(f"up_blocks.{b}.attentions.{i}" for b, i in expected)
    assert len(FeatureInjector(reference.tiny_unet()).attentions) == 8


def test_the_rule_suits_sdxl_with_its_many_transformer_blocks() -> None:
    unet = reference.tiny_sdxl_unet()
    assert default_layers(unet).features == ("up_blocks.0.resnets.1",)
    assert len(FeatureInjector(unet).attentions) == 2 * 3 + 3 * 2


def test_the_rule_suits_the_embedded_model() -> None:
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED, subfolder="unet")
    assert default_layers(unet).features == ("up_blocks.1.resnets.1",)
    assert FeatureInjector(unet).attentions


@pytest.mark.parametrize(
    ("features", "attentions", "message"),
    [
        ("up_blocks.9.resnets.0", "up_blocks.2", "no module 'up_blocks.9"),
        ("up_blocks.1.attentions.0", "up_blocks.2", "no residual block"),
        ("up_blocks.1.resnets.1", "up_blocks.0", "no self-attention"),
    ],
)
def test_wrong_layers_are_named(features: str, attentions: str, message: str) -> None:
    layers = InjectionLayers(features=(features,), attentions=(attentions,))
    with pytest.raises(InputError, match=message):
        FeatureInjector(reference.tiny_unet(), layers)
