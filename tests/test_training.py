"""The stages of training take real steps, go on where they stopped, and export what loads."""

import math
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer

from pnpvideo.catalogue.find_model import EMBEDDED
from pnpvideo.loading.load import load_model
from tools.train import denoiser
from tools.train.artwork import Artwork
from tools.train.autoencoder import (
    CROP,
    CROPS,
    HELD_OUT,
    Pictures,
    crops,
    load_vae,
    reconstruction_loss,
    save_vae,
    vae_loss,
)
from tools.train.denoiser import (
    CLEAR,
    CLEARER,
    INJECTED,
    NOISY,
    OF_TARGETS,
    ON_OBJECTS,
    YARDSTICK_LEVELS,
    DenoiserTraining,
    draw_conditions,
    weighted_mean,
    yardstick_conditions,
)
from tools.train.examples import OBJECTS, make_pair
from tools.train.model import (
    LATENT_CHANNELS,
    LATENT_SIZE,
    TEXT_LENGTH,
    make_tokenizer,
    new_scheduler,
    new_vae,
)
from tools.train.scenes import SIZE
from tools.train.state import TrainingState
from tools.train.supervise import gaze_loss
from tools.train.train import load_exported

pytestmark = pytest.mark.slow

ARTWORK = Artwork()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    names = ARTWORK.names()
    make_tokenizer(folder, [picture.caption for n in range(200) for picture in make_pair(n, names)])
    return CLIPTokenizer.from_pretrained(folder)


def some_pictures(count: int) -> Tensor:
    return next(iter(DataLoader(Pictures(ARTWORK, start=0, count=count), batch_size=count)))


def test_crops_are_parts_of_their_pictures() -> None:
    pictures = some_pictures(2)
    assert pictures.shape == (2, 3, SIZE, SIZE)
    cut = crops(pictures, Generator().manual_seed(0))
    assert cut.shape == (2 * CROPS, 3, CROP, CROP)
    back = ((cut + 1) * 127.5).round().byte()
    for number, crop in enumerate(back):
        windows = pictures[number // CROPS].unfold(1, CROP, 1).unfold(2, CROP, 1)
        corner = (windows[..., 0, 0] == crop[:, :1, :1]).all(0).nonzero().tolist()
        assert any(torch.equal(windows[:, top, left], crop) for top, left in corner)


def test_held_out_pictures_are_of_held_out_things() -> None:
    known, unknown = (
        Pictures(ARTWORK, start=HELD_OUT, count=8, held_out=held_out) for held_out in (False, True)
    )
    assert set(known.names).isdisjoint(unknown.names)
    assert not torch.equal(known[0], unknown[0])
    assert torch.equal(known[3], known[3])


def test_the_autoencoder_learns_and_its_factor_is_8() -> None:
    torch.manual_seed(0)
    vae = new_vae().train()
    state = TrainingState(vae, learning_rate=1e-3, warmup=1, decay=0.9)
    images = crops(some_pictures(1), Generator().manual_seed(0))[:2, :, :64, :64]
    losses = []
    for _ in range(12):
        # The same noise and scale, so that losses compare.
        loss, squared = vae_loss(vae, images, Generator().manual_seed(0), encode=True)
        state.update(loss)
        losses.append(float(loss.detach()))
        assert squared >= 0
    assert losses[-1] < 0.95 * losses[0]
    with torch.no_grad():
        latents = vae.encode(images).latents
    assert latents.shape == (2, LATENT_CHANNELS, 8, 8)


def test_a_new_autoencoder_knows_colours() -> None:
    torch.manual_seed(0)
    vae = new_vae()
    colours = torch.rand(6, 3, 1, 1) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(colours.expand(-1, -1, 256, 256)).latents
        decoded = vae.decode(latents).sample[..., 96:160, 96:160]
    # Away from the borders the first three latents are the colour itself.
    inside = latents[:, :3, 8:24, 8:24]
    torch.testing.assert_close(inside, (1.5 * colours).expand_as(inside), atol=1e-5, rtol=0)
    assert (decoded - colours).abs().mean() < 0.35 * colours.abs().mean()


def test_smaller_latents_are_to_decode_to_the_smaller_picture() -> None:
    vae = new_vae()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    seen = [
        vae_loss(vae, images, Generator().manual_seed(seed), encode=False) for seed in range(12)
    ]
    # The error of the picture itself is not known where the smaller one was decoded.
    rescaled = [bool(squared.isnan()) for _, squared in seen]
    assert 0 < sum(rescaled) < len(seen)
    assert all(loss.isfinite() and loss.requires_grad for loss, _ in seen)


def test_the_decoder_alone_leaves_the_encoder() -> None:
    vae = new_vae()
    loss, _ = vae_loss(vae, torch.rand(1, 3, 64, 64), Generator().manual_seed(0), encode=False)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is None for value in vae.encoder.parameters())
    assert any(value.grad is not None for value in vae.decoder.parameters())


def test_the_loss_weighs_colours_and_edges() -> None:
    noise = torch.randn(1, 3, 64, 64, generator=Generator().manual_seed(0))
    flat = torch.full_like(noise, float(noise.abs().mean()))
    assert reconstruction_loss(torch.zeros_like(noise)) == 0
    # What is a wrong colour, and what is a wrong edge, counts beyond the error of each pixel.
    for error in (noise, flat):
        assert reconstruction_loss(error) > error.abs().mean() + 2 * error.square().mean() + 0.1


def test_a_saved_autoencoder_loads(tmp_path: Path) -> None:
    vae = new_vae()
    vae.register_to_config(scaling_factor=0.625)
    save_vae(vae, tmp_path / "vae.safetensors")
    again = load_vae(tmp_path / "vae.safetensors")
    assert again.config["scaling_factor"] == 0.625
    assert not again.training
    for name, value in vae.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_objects_and_targets_count_more() -> None:
    generator = Generator().manual_seed(0)
    errors, cover = (torch.rand(2, 2, 3, 3, generator=generator) for _ in range(2))
    total = weights = 0.0
    for pair in range(2):
        for role, of_role in enumerate((1.0, OF_TARGETS)):
            for error, share in zip(
                errors[pair, role].flatten().tolist(),
                cover[pair, role].flatten().tolist(),
                strict=True,
            ):
                weight = of_role * (1 - share) + of_role * (1 + ON_OBJECTS) * share
                total, weights = total + weight * error, weights + weight
    assert float(weighted_mean(errors, cover)) == pytest.approx(total / weights, rel=1e-5)
    flat = torch.full_like(errors, 0.3)
    assert float(weighted_mean(flat, cover)) == pytest.approx(0.3, rel=1e-5)


@pytest.fixture
def new_training(
    tmp_path: Path, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> "type[DenoiserTraining]":
    monkeypatch.setattr(denoiser, "CHUNK", 4)  # pairs to draw before the first step

    class Training(DenoiserTraining):
        def __init__(self) -> None:
            torch.manual_seed(1)
            vae = new_vae().eval()
            super().__init__(tmp_path, ARTWORK, vae, tokenizer, pairs=2, device="cpu", workers=0)

    return Training


def test_a_step_changes_all_that_is_trained_and_resumes(
    new_training: "type[DenoiserTraining]", tmp_path: Path
) -> None:
    training = new_training()  # type: ignore[call-arg]
    before = {name: value.clone() for name, value in training.state.model.state_dict().items()}
    training.run(0.05)
    assert training.state.step == 1
    assert training.state.images == 4
    for name, value in training.state.model.state_dict().items():
        assert value.isfinite().all()
        if "position_ids" not in name:
            assert not torch.equal(value, before[name]), name
    training.state.save(tmp_path, "unet")
    resumed = new_training()  # type: ignore[call-arg]
    assert resumed.state.step == 1
    ours, theirs = training._batch(), resumed._batch()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name])
    assert ours["latents"].shape == (2, 2, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    assert ours["tokens"].shape == (2, 2, TEXT_LENGTH)
    for one, other in zip(training._losses(), resumed._losses(), strict=True):
        assert one.isfinite()
        assert torch.equal(one, other)
    averaged = resumed.averaged()
    assert all(value.isfinite().all() for value in averaged.state_dict().values())


def test_training_goes_on_from_an_exported_model(tokenizer: CLIPTokenizer) -> None:
    exported = load_model().components
    denoiser = load_exported(EMBEDDED, tokenizer)
    own, given = denoiser.unet.state_dict(), exported["unet"].state_dict()
    same = [name for name, value in own.items() if value.shape == given[name].shape]
    assert "mid_block.resnets.0.conv1.weight" in same
    for name in same:
        assert torch.equal(own[name], given[name].float())
    known = CLIPTokenizer.from_pretrained(EMBEDDED, subfolder="tokenizer").get_vocab()
    ours = denoiser.text_encoder.get_input_embeddings().weight
    theirs = exported["text_encoder"].get_input_embeddings().weight
    for word in ("red</w>", "night</w>", "of</w>"):
        number = tokenizer.get_vocab()[word]
        assert torch.equal(ours[number], theirs[known[word]].float())


def test_clear_sources_are_never_noisier_than_their_targets() -> None:
    alphas = new_scheduler().alphas_cumprod
    drawn = [
        draw_conditions((64, 2, 1, 2, 2), alphas, Generator().manual_seed(seed))
        for seed in range(100)
    ]
    source, target = torch.cat([one.timesteps for one in drawn]).T
    features = torch.cat([one.injected for one in drawn])[:, 0]
    assert (source <= target).all()
    assert torch.equal(source[~features], target[~features])
    # Of noisy targets with injected features, CLEARER have sources within CLEAR.
    noisy = features & (target > CLEAR[1])
    clear = source[noisy] < target[noisy]
    assert float(clear.float().mean()) == pytest.approx(CLEARER, abs=0.03)
    assert source[noisy][clear].min() >= CLEAR[0]
    assert source[noisy][clear].max() < CLEAR[1]
    assert float(features.float().mean()) == pytest.approx(INJECTED, abs=0.02)
    # A quarter is drawn from NOISY on, and the others from all levels.
    share = 1 - NOISY / 1000
    expected = 0.25 + 0.75 * share
    assert float((target >= NOISY).float().mean()) == pytest.approx(expected, abs=0.03)


def test_the_yardstick_is_the_naive_loss_and_stays_the_same(
    new_training: "type[DenoiserTraining]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoiser, "YARDSTICK", 16)
    training = new_training()  # type: ignore[call-arg]
    losses = training.yardstick()
    assert training.yardstick() == losses
    assert set(losses) == set(YARDSTICK_LEVELS)
    assert training.held_out is not None
    batch, model = training.held_out, training.averaged()
    conditions = yardstick_conditions(batch["latents"].shape, training.alphas)
    number = 3  # one pair alone, as the formulas say
    expected = []
    for row in (number, number + len(YARDSTICK_LEVELS)):
        clean, noise = batch["latents"][row], conditions.noise[row]
        times = conditions.timesteps[row].tolist()
        assert times == [255, YARDSTICK_LEVELS[number]]
        alphas = [float(training.alphas[time]) for time in times]
        noisy = torch.stack(
            [a**0.5 * z + (1 - a) ** 0.5 * e for a, z, e in zip(alphas, clean, noise, strict=True)]
        )
        tokens = torch.stack((training.nothing, batch["tokens"][row, 1]))
        truth = {name: value[row] for name, value in batch.items() if name != "latents"}
        with torch.no_grad():
            predicted, _ = model(
                noisy, torch.tensor(times), tokens, torch.ones(1, 2, dtype=torch.bool), truth
            )
        wanted = alphas[1] ** 0.5 * noise[1] - (1 - alphas[1]) ** 0.5 * clean[1]
        error = (predicted[1] - wanted).square().mean(0)
        weights = 1 + ON_OBJECTS * batch["cover"][row, 1]
        expected.append(float((error * weights).sum() / weights.sum()))
    level = YARDSTICK_LEVELS[number]
    assert losses[level] == pytest.approx(sum(expected) / 2, rel=1e-3)


def test_injection_reaches_the_targets_alone(new_training: "type[DenoiserTraining]") -> None:
    model = new_training().state.model.eval()  # type: ignore[call-arg]
    # A new UNet's residual branches are not zero, so that what is injected shows.
    generator = Generator().manual_seed(0)
    noisy = torch.randn(4, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, generator=generator)
    tokens = torch.zeros(4, TEXT_LENGTH, dtype=torch.long)
    side = LATENT_SIZE
    truth = {
        "cover": torch.zeros(4, side, side),
        **{name: torch.zeros(4, side, side, dtype=torch.long) for name in ("thing", "appearance")},
        **{name: torch.zeros(4, dtype=torch.long) for name in ("ground", "light", "style")},
        "words": torch.zeros(4, OBJECTS, TEXT_LENGTH, dtype=torch.bool),
        "masks": torch.zeros(4, OBJECTS, side, side),
    }

    @torch.no_grad()
    def predict(*injected: tuple[bool, bool]) -> Tensor:
        result: Tensor = model(noisy, torch.full((4,), 500), tokens, torch.tensor(injected), truth)[
            0
        ]
        return result

    none = predict((False, False), (False, False))
    first = predict((True, True), (False, False))
    assert torch.equal(first[0], none[0])
    assert not torch.allclose(first[1], none[1], atol=1e-4)
    torch.testing.assert_close(first[2:], none[2:])
    features, queries = predict((True, False), (False, True))[1::2]
    assert not torch.allclose(features, none[1], atol=1e-4)
    assert not torch.allclose(queries, none[3], atol=1e-5)
    assert not torch.allclose(features, first[1], atol=1e-5)


def test_words_are_to_look_where_the_thing_is() -> None:
    generator = Generator().manual_seed(0)
    heads, width, side, tokens = 2, 3, 4, 5
    queries = torch.randn(2, side**2, heads * width, generator=generator)
    keys = torch.randn(2, tokens, heads * width, generator=generator)
    words = torch.zeros(2, 3, tokens, dtype=torch.bool)
    words[0, 0, 2], words[0, 1, 3:], words[1, 2, 1] = True, True, True
    masks = torch.zeros(2, 3, 8, 8)
    masks[0, 0, :4], masks[0, 1, 4:, :4] = 1, 1  # the third object is named and not seen
    strayed = []
    for number in (0, 1):
        inside = total = 0.0
        for row in range(side):
            for column in range(side):
                place = row * side + column
                for head in range(heads):
                    part = slice(head * width, (head + 1) * width)
                    logits = keys[0, :, part] @ queries[0, place, part] / width**0.5
                    share = logits.exp() / logits.exp().sum()
                    attended = float(share[words[0, number]].sum())
                    total += attended
                    seen = masks[0, number, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                    inside += attended * float(seen.mean())
        strayed.append(-math.log(inside / total))
    loss = gaze_loss(queries, keys, heads, words, masks)
    assert float(loss) == pytest.approx(sum(strayed) / 2, rel=1e-5)
    assert float(gaze_loss(queries, keys, heads, words & False, masks)) == 0
