"""The layout supervision of the embedded model's training, against the scenes' own masks."""

from pathlib import Path

import pytest
import torch
from torch import Generator
from transformers import CLIPTokenizer

import pnpvideo
from tools.embedded_model import Denoiser
from tools.scenes import COLOURS, GROUNDS, MATERIALS, SHAPES, STYLES, object_masks, random_scene
from tools.supervise_layout import UNSEEN, SupervisedDenoiser, draw_truth

EMBEDDED = Path(pnpvideo.__file__).parent / "embedded"
SIZE = 32


@pytest.mark.parametrize("style", STYLES)
def test_truth_is_what_the_front_object_shows(style: str) -> None:
    scenes = [random_scene(Generator().manual_seed(seed)) for seed in range(12)]
    geometry, classes = draw_truth(scenes, [style] * len(scenes), SIZE)
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


def test_supervision_changes_no_prediction_and_splits_exactly() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")
    torch.manual_seed(0)
    denoiser = Denoiser(tokenizer).eval()
    noisy, timesteps = torch.randn(4, 4, SIZE, SIZE), torch.tensor([900, 600, 300, 0])
    tokens = torch.randint(len(tokenizer), (4, 40))
    plain = denoiser(noisy, timesteps, tokens)
    supervised = SupervisedDenoiser(denoiser)
    scenes = [random_scene(Generator().manual_seed(seed)) for seed in range(4)]
    geometry, classes = draw_truth(scenes, STYLES, SIZE)

    def run(rows: slice) -> tuple[torch.Tensor, ...]:
        some = {name: values[rows] for name, values in classes.items()}
        return tuple(supervised(noisy[rows], timesteps[rows], tokens[rows], geometry[rows], some))

    predicted, loss, twins = run(slice(0, 4))
    torch.testing.assert_close(predicted, plain)
    halves = [run(slice(0, 2)), run(slice(2, 4))]
    torch.testing.assert_close(loss, (halves[0][1] + halves[1][1]) / 2)
    torch.testing.assert_close(twins, (halves[0][2] + halves[1][2]) / 2)
    assert twins > 0
    loss.backward()
    words = denoiser.text_encoder.get_input_embeddings().weight
    assert words.grad is not None
    assert words.grad.abs().sum() > 0


def test_the_same_picture_twice_has_no_difference() -> None:
    denoiser = Denoiser(CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")).eval()
    noisy = torch.randn(1, 4, SIZE, SIZE).repeat(2, 1, 1, 1)
    scene = random_scene(Generator().manual_seed(0))
    truth = draw_truth([scene] * 2, ["photo"] * 2, SIZE)
    twins = SupervisedDenoiser(denoiser)(
        noisy, torch.tensor([500] * 2), torch.zeros(2, 40, dtype=torch.long), *truth
    )[2]
    assert float(twins.detach()) < 1e-6
