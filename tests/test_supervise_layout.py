"""The layout heads against the scenes' own masks, and injection against the package's own."""

from pathlib import Path

import pytest
import torch
from torch import Generator
from transformers import CLIPTokenizer

import pnpvideo
from pnpvideo.sampling.inject import FeatureInjector, InjectionLayers
from tools.embedded_model import Denoiser
from tools.scenes import COLOURS, GROUNDS, MATERIALS, SHAPES, STYLES, object_masks, random_scene
from tools.supervise_layout import (
    ATTENTIONS,
    FEATURES,
    UNSEEN,
    SupervisedDenoiser,
    draw_truth,
)

EMBEDDED = Path(pnpvideo.__file__).parent / "embedded"
SIZE = 32


@pytest.mark.parametrize("style", STYLES)
def test_truth_is_what_the_front_object_shows(style: str) -> None:
    scenes = [random_scene(Generator().manual_seed(seed)) for seed in range(12)]
    geometry, classes = draw_truth([(scene, style) for scene in scenes], SIZE)
    for row, scene in enumerate(scenes):
        masks = object_masks(scene, SIZE)
        ground = 1 - masks.sum(0)
        # Where one of them fills the pixel there is no doubt.
        sure = ground > 0.99
        assert (geometry[row, :, sure] == 0).all()
        assert (classes["shape"][row][sure] == len(SHAPES)).all()
        seen = style in ("cartoon", "photo")
        expected = GROUNDS.index(scene.ground) if seen else UNSEEN
        assert (classes["ground"][row][sure] == expected).all()
        assert (classes["style"][row] == STYLES.index(style)).all()
        for mask, thing in zip(masks, scene.objects, strict=True):
            sure = mask > 0.99
            assert (geometry[row, 0][sure] == 1).all()
            assert (geometry[row, 1][sure] > 0).all()
            assert (classes["shape"][row][sure] == list(SHAPES).index(thing.shape)).all()
            assert (classes["ground"][row][sure] == UNSEEN).all()
            colour = list(COLOURS).index(thing.colour) if seen else UNSEEN
            assert (classes["colour"][row][sure] == colour).all()
            material = MATERIALS.index(thing.material) if style == "photo" else UNSEEN
            assert (classes["material"][row][sure] == material).all()


def supervised() -> SupervisedDenoiser:
    torch.manual_seed(0)
    return SupervisedDenoiser(
        Denoiser(CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")).eval()
    )


def test_supervision_changes_no_prediction_and_splits_exactly() -> None:
    network = supervised()
    noisy, timesteps = torch.randn(4, 4, SIZE, SIZE), torch.tensor([900, 600, 300, 0])
    tokens = torch.randint(700, (4, 40))
    injected = torch.tensor([[False, False], [True, True]])
    scenes = [random_scene(Generator().manual_seed(seed)) for seed in range(4)]
    geometry, classes = draw_truth(list(zip(scenes, STYLES, strict=True)), SIZE)

    def run(pairs: slice) -> tuple[torch.Tensor, ...]:
        rows = slice(2 * pairs.start, 2 * pairs.stop)
        some = {name: values[rows] for name, values in classes.items()}
        inputs = (noisy[rows], timesteps[rows], tokens[rows], injected[pairs])
        return tuple(network(*inputs, geometry[rows], some))

    predicted, loss = run(slice(0, 2))
    torch.testing.assert_close(predicted[:3], network.denoiser(noisy, timesteps, tokens)[:3])
    halves = [run(slice(0, 1)), run(slice(1, 2))]
    torch.testing.assert_close(loss, (halves[0][1] + halves[1][1]) / 2)
    loss.backward()
    words = network.denoiser.text_encoder.get_input_embeddings().weight
    assert words.grad is not None
    assert words.grad.abs().sum() > 0


@pytest.mark.parametrize("attentions", [False, True])
def test_pairs_are_injected_as_in_sampling(attentions: bool) -> None:
    network = supervised()
    unet = network.denoiser.unet
    noisy, timesteps = torch.randn(2, 4, SIZE, SIZE), torch.tensor([600, 600])
    tokens = torch.randint(700, (2, 40))
    scene = random_scene(Generator().manual_seed(0))
    truth = draw_truth([(scene, "sketch"), (scene, "photo")], SIZE)
    predicted, _ = network(noisy, timesteps, tokens, torch.tensor([[True, attentions]]), *truth)
    words = network.denoiser.text_encoder(tokens).last_hidden_state
    injector = FeatureInjector(unet, InjectionLayers(features=FEATURES, attentions=ATTENTIONS))
    with injector.installed(), injector.injecting(1, features=True, attention=attentions):
        expected = unet(noisy, timesteps, words).sample
    torch.testing.assert_close(predicted, expected)
    assert not torch.allclose(predicted[1], unet(noisy, timesteps, words).sample[1], atol=1e-3)
