"""Features, queries and keys as tensors are those that hooks see in the network itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from clips import smooth_frames
from torch import Tensor

import pnpvideo
from pnpvideo import InputError, PnPVideoPipeline, record_features

FEATURE, ATTENTION = "up_blocks.1.resnets.0", "up_blocks.1.attentions.0"


@pytest.fixture
def pipeline(tiny_model: Path) -> PnPVideoPipeline:
    loaded = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    loaded.model_options = loaded.model_options.override({"steps": 4})
    return loaded


def test_they_are_what_hooks_see(pipeline: PnPVideoPipeline) -> None:
    frames = list(smooth_frames(3, 48, 32))
    recorded = record_features(
        pipeline, frames, features=[FEATURE], attentions=[ATTENTION], steps=[0, 3],
        size=(48, 32), inversion_prompt="a star", batch_size=2,
    )  # fmt: skip
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.update({name: output})

    unet, latents = pipeline.unet, recorded.trajectory.latents
    layer = unet.get_submodule(ATTENTION).transformer_blocks[0].attn1
    unet.get_submodule(FEATURE).conv2.register_forward_hook(keep("feature"))
    layer.to_q.register_forward_hook(keep("query"))
    layer.to_k.register_forward_hook(keep("key"))
    text = pipeline.encode_texts(["a star"]).hidden.expand(3, -1, -1)
    for step in (0, 3):
        timestep = recorded.trajectory.timesteps[step]
        assert recorded.timesteps[step] == timestep
        with torch.no_grad():
            unet(latents[step, :].float(), timestep, text)
        torch.testing.assert_close(recorded.features[FEATURE][step], seen["feature"])
        for found, name in ((recorded.queries, "query"), (recorded.keys, "key")):
            heads = seen[name].unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            torch.testing.assert_close(found[ATTENTION][step], heads)
    assert set(recorded.timesteps) == set(recorded.features[FEATURE]) == {0, 3}


def test_by_default_they_are_those_that_are_injected(pipeline: PnPVideoPipeline) -> None:
    first = record_features(pipeline, list(smooth_frames(1, 32, 32)))
    assert set(first.features) == set(pipeline.layers.features)
    assert set(first.queries) == set(first.keys)
    assert set(first.queries) == set(pipeline.layers.attentions)
    assert list(first.features[pipeline.layers.features[0]]) == [0, 1, 2, 3]
    # Nothing stays in the network, and a trajectory saves the inversion.
    again = record_features(pipeline, first.trajectory, features=[], attentions=["up_blocks"])
    assert not again.features
    assert all(name.startswith("up_blocks[") for name in again.keys)
    one = next(iter(first.keys))
    same = [key[3] for key in again.keys.values() if key[3].shape == first.keys[one][3].shape]
    assert any(torch.allclose(key, first.keys[one][3], atol=1e-5) for key in same)


def test_without_an_inversion_the_source_is_read_with_noise(pipeline: PnPVideoPipeline) -> None:
    options = pipeline.model_options.override({"start_from": "noised", "noise_share": 0.0})
    frames = list(smooth_frames(1, 32, 32))
    first, again = (record_features(pipeline, frames, options=options, steps=[1]) for _ in "ab")
    for name, feature in first.features.items():
        assert feature[1].isfinite().all()
        assert torch.equal(feature[1], again.features[name][1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": [4]}, "steps holds 4; give whole numbers from 0 to 3"),
        ({"steps": [0.5]}, "steps holds 0.5"),
        ({"features": ["up_blocks.9"]}, "no module 'up_blocks.9'"),
        ({"attentions": ["conv_in"]}, "'conv_in' has no self-attention"),
    ],
)
def test_what_is_refused(pipeline: PnPVideoPipeline, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        record_features(pipeline, list(smooth_frames(1, 32, 32)), **values)
    assert "record_features" in pnpvideo.__all__
