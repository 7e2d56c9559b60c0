"""The values inside a network, against naive references, and the command that shows them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import assert_refused, pixels, save_frames
from models import save_tiny_sdxl
from torch import Tensor

from pnpvideo.cli import main
from pnpvideo.clips.as_clip import as_clip
from pnpvideo.errors import InputError
from pnpvideo.inside.components import Tokens, coloured
from pnpvideo.inside.draw import Cell, sheet
from pnpvideo.inside.show_correspondence import find_places, moved_pixels, place_chart
from pnpvideo.inside.show_layers import show_attention, show_features
from pnpvideo.inside.show_prediction import show_prediction
from pnpvideo.inside.show_words import show_words
from pnpvideo.inside.subject import Subject
from pnpvideo.inside.watch import attended, look, watch_attention, watch_features
from pnpvideo.models.network import Batch, as_unet
from pnpvideo.models.noise_schedule import Level
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.sampling.schedule import clean_and_noise, clean_of_step, ddim_step
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.latents import decode
from pnpvideo.stages.request import Edit, seeded

STEPS = 3
SMALL = ("--steps", str(STEPS), "--side", "32", "--quiet")


@pytest.fixture(scope="module")
def subject(pipeline: PnPVideoPipeline) -> Subject:
    """A clip of three frames and a picture, 32 x 32 pixels, inverted."""
    options = PnPOptions(steps=STEPS)
    edits = []
    for frames in (smooth_frames(3, 32, 32), smooth_frames(5, 32, 32)[4:]):
        request = Edit(
            source=as_clip(frames),
            size=(32, 32),
            prompt=["a red star", "a blue moon"],
            options=options,
            generators=seeded(0),
        )
        edits.append(OpenEdit(pipeline.model, request, QUIET))
        edits[-1].invert()
    return Subject(
        edits=tuple(edits),
        names=("clip", "picture"),
        options=options,
        batch_size=2,
    )


def components(rows: np.ndarray) -> np.ndarray:
    """The three leading principal components, by the singular values of the centred rows."""
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    found: np.ndarray = np.linalg.svd(centred, full_matrices=False)[2][:3]
    return found


@pytest.mark.parametrize(("channels", "offset"), [(7, 0.0), (40, 100.0), (3, 0.0), (2, 1.0)])
def test_one_basis_of_all_tokens_is_their_principal_components(
    channels: int, offset: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    spread = torch.linspace(3, 0.1, channels)
    parts = [
        torch.randn(count, 4, 5, channels, generator=generator) * spread + offset
        for count in (1, 3, 2)
    ]
    tokens = Tokens()
    for part in parts:
        tokens.add(part)
    basis = tokens.basis()
    rows = torch.cat([part.flatten(0, -2) for part in parts]).numpy()
    expected = components(rows)
    count = min(3, channels)
    signs = np.sign((expected[:count] * basis.directions.numpy()).sum(1, keepdims=True))
    np.testing.assert_allclose(basis.directions.numpy() * signs, expected[:count], atol=1e-6)
    largest = np.abs(basis.directions.numpy()).argmax(1)
    assert (basis.directions.numpy()[range(count), largest] > 0).all()
    projected = basis.project(parts[1])
    own = (parts[1].double().numpy() - rows.astype(np.float64).mean(0)) @ expected.T
    np.testing.assert_allclose(projected[..., :count] * signs[:, 0], own[..., :count], atol=1e-4)
    assert (projected[..., count:] == 0).all()


def test_all_pictures_have_one_range_of_colours() -> None:
    ramp = np.linspace(-1, 1, 300, dtype=np.float32).reshape(1, 10, 30, 1).repeat(3, -1)
    dark, bright = coloured([ramp, ramp + 2])
    assert dark.max() < bright.min() + 3
    assert (int(dark.min()), int(bright.max())) == (0, 255)
    assert (np.diff(dark.reshape(-1, 3).astype(int), axis=0) >= 0).all()


def naive_pass(
    pipeline: PnPVideoPipeline, subject: Subject, step: int, module: Any
) -> tuple[Tensor, Tensor]:
    """Return a module's input and output for the first source's frames, one at a time."""
    inputs, outputs = [], []
    trajectory = subject.sources[0].trajectory

    def keep(_: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(given[0])
        outputs.append(output)

    handle = module.register_forward_hook(keep)
    try:
        for frame in range(3):
            latents = trajectory.latents[step, [frame]].float()
            hidden = subject.text.hidden
            with torch.no_grad():
                pipeline.unet(latents, trajectory.timesteps[step], hidden)
    finally:
        handle.remove()
    return torch.cat(inputs), torch.cat(outputs)


def seen_of(subject: Subject, step: int, watch: Any, name: str) -> Tensor:
    trajectory = subject.sources[0].trajectory
    with subject.network() as network:
        batches = look(network, trajectory, subject.text, step, watch, [name], batch_size=2)
        return torch.cat([seen[name] for seen in batches])


def decoder_of(subject: Subject) -> Any:
    with subject.network() as network:
        return as_unet(network, "the decoder").decoder


def test_features_are_what_leaves_a_residual_branch(
    pipeline: PnPVideoPipeline, subject: Subject
) -> None:
    name = decoder_of(subject)[3].feature
    assert name == "up_blocks.1.resnets.1"
    seen = seen_of(subject, 1, watch_features, name)
    block = pipeline.unet.get_submodule(name)
    _, expected = naive_pass(pipeline, subject, 1, block.conv2)
    torch.testing.assert_close(seen, expected.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-4)
    assert not block.conv2._forward_hooks


def test_attention_is_the_mean_of_the_heads_maps(
    pipeline: PnPVideoPipeline, subject: Subject
) -> None:
    name = decoder_of(subject)[3].attention
    assert name == "up_blocks.1.attentions.1"
    seen = seen_of(subject, 1, watch_attention, name)
    layer = pipeline.unet.get_submodule(name).transformer_blocks[0].attn1
    tokens, _ = naive_pass(pipeline, subject, 1, layer)
    expected = np.zeros((3, 4, 4))
    for frame in range(3):
        query, key = (
            (tokens[frame] @ p.weight.T).detach().double() for p in (layer.to_q, layer.to_k)
        )
        size = query.shape[1] // layer.heads
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            scores = (query[:, part] @ key[:, part].T / size**0.5).numpy()
            weights = np.exp(scores)
            expected[frame] += weights / weights.sum(1, keepdims=True) / layer.heads
    np.testing.assert_allclose(seen.numpy().reshape(3, 4, 4), expected, atol=1e-5)


def test_large_maps_are_summed_over_cells(subject: Subject) -> None:
    with subject.network() as network:
        (layer,) = network.attentions("up_blocks.3.attentions.0")
    tokens = torch.randn(1, 64 * 32, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = attended(layer, tokens, (64, 32))
        query, key = (
            x.view(1, -1, layer.heads, 8 // layer.heads).transpose(1, 2)
            for x in (layer.query(tokens), layer.key(tokens))
        )
        maps = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).mean(1)
    expected = maps.view(1, 64, 32, 32, 2, 32).sum(4).flatten(3)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.sum(-1), torch.ones(1, 64, 32))


@pytest.mark.parametrize("show", [show_features, show_attention])
def test_layers_have_one_basis_for_sources_and_frames(
    subject: Subject, show: Callable[..., Any]
) -> None:
    strips = show(subject, ["3", "7"], (0.0, 1.0))
    assert strips[0].column == "layer 3 (injected)"
    assert [strip.row for strip in strips] == ["t = 667"] * 2 + ["t = 1"] * 2
    assert [len(one) for one in strips[0].pictures] == [3, 1]
    # What the last frame of a clip shows has its colours in another source.
    alone = show(subject, ["3"], (1.0,))[0]
    np.testing.assert_array_equal(alone.pictures[0], strips[2].pictures[0])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("start", "end"), [(0.01, 0.02), (0.3, 0.6), (0.9, 1.0)])
def test_what_a_step_expects_is_found_between_its_ends(kind: Any, start: float, end: float) -> None:
    before, after = (Level(signal_square=x, noise_square=1 - x) for x in (start, end))
    latents, output = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    expected = clean_and_noise(latents, output, before, kind)[0]
    stepped = ddim_step(latents, output, before, after, kind)
    found = clean_of_step(latents, stepped, before, after, eta=0)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("prompts", [(), ("a red star", "a blue moon")])
def test_predictions_are_the_networks(subject: Subject, prompts: tuple[str, ...]) -> None:
    plain = {"tau_f": 0.0, "tau_a": 0.0, "guidance_scale": 1.0}
    options = subject.options.override(plain)
    some = Subject(**{**subject.__dict__, "options": options})
    strips = show_prediction(some, prompts, 0, (0.0, 1.0))
    assert [strip.row for strip in strips] == [x for p in prompts or ("",) for x in (p, p)]
    schedule, trajectory = subject.model.schedule(options, (32, 32)), subject.sources[0].trajectory
    text = subject.model.encode_texts([prompts[1] if prompts else ""])
    latents = trajectory.latents[0, :].float()
    with torch.no_grad():
        batch = Batch(latents=latents, timestep=schedule.timesteps[0], texts=text)
        with subject.network() as network:
            output = network.predict(batch)
    level = schedule.levels[0]
    expected = (latents - level.noise * output) / level.signal
    first = next(s for s in strips[2 * bool(prompts) :])
    shown = np.concatenate(list(decode(subject.model, expected, 2)))
    assert np.abs(first.pictures[0].astype(int) - shown).max() <= 2


def test_large_models_are_looked_into_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path, 1)
    model = str(save_tiny_sdxl(tmp_path / "xl"))
    given = ["visualize", "source0.png", "--model", model, *SMALL, "--prompt", "a red dog"]
    for show in ("features", "attention", "prediction", "words"):
        assert main([*given, "--show", show, "-o", f"{show}.png"]) == 0


def test_a_source_matches_itself_place_by_place(subject: Subject) -> None:
    places, grid = find_places(subject, 1)
    assert grid == (8, 8)
    own = np.stack(np.meshgrid(range(8), range(8), indexing="ij"), axis=-1)
    np.testing.assert_array_equal(places[0][0], own)
    assert [one.shape for one in places] == [(3, 8, 8, 2), (1, 8, 8, 2)]
    picture = subject.frames(subject.sources[0])[0]
    np.testing.assert_array_equal(moved_pixels(picture, grid, own), picture)
    left = moved_pixels(picture, grid, np.stack([own[..., 0], (own[..., 1] + 1) % 8], -1))
    np.testing.assert_array_equal(left, np.roll(picture, -4, axis=1))


def test_each_place_has_a_colour_of_its_own() -> None:
    chart = place_chart(9, 16)
    assert len(np.unique(chart.reshape(-1, 3), axis=0)) == 9 * 16
    assert place_chart(1, 1).shape == (1, 1, 3)


def test_words_are_put_together_from_their_tokens(
    pipeline: PnPVideoPipeline, subject: Subject
) -> None:
    tokenizer, text = pipeline.tokenizer, "a dog, the xyzzyplugh"
    words = subject.model.words_in(text)
    assert [word for word, _ in words] == ["dog", ",", "xyzzyplugh"]
    ids = tokenizer(text).input_ids
    for word, numbers in words:
        assert tokenizer.decode([ids[n] for n in numbers]).replace(" ", "") == word
    assert len(words[2][1]) > 1
    strips = show_words(subject, ["a dog", "a red dog"])
    assert [(s.row, s.column) for s in strips] == [
        ("a dog", "dog"),
        ("a red dog", "red"),
        ("a red dog", "dog"),
    ]
    assert [one.shape for one in strips[0].pictures] == [(3, 32, 32, 3), (1, 32, 32, 3)]


def test_a_sheet_has_its_pictures_where_their_names_are() -> None:
    red, blue = (np.full((20, 40, 3), c, np.uint8) for c in ((255, 0, 0), (0, 0, 255)))
    rows = [[Cell(picture=red), None], [Cell(picture=blue), Cell(picture=red, caption="x")]]
    drawn = sheet(rows, row_names=["", ""], column_names=["one", "two"], side=80)
    found = [(drawn == c).all(-1) for c in ((255, 0, 0), (0, 0, 255))]
    assert [int(one.sum()) for one in found] == [2 * 40 * 80, 40 * 80]
    # The same size whatever a row is called: a video has one.
    sizes = {
        sheet(rows, row_names=[name, ""], column_names=["one", "two"], side=80).shape
        for name in ("frame 1", "frame 1234567")
    }
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (("--layer", "4", "--at", "0.5"), 1),
        (("--show", "attention", "--layer", "up_blocks.2"), 1),
        (("--show", "prediction", "--prompt", "a stone", "--at", "0,1"), 2),
        (("--show", "correspondence"), 2),
        (("--show", "words", "--prompt", "a red dog"), 2),
    ],
)
def test_the_command_writes_a_picture(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    columns: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path, 2)
    given = ["visualize", "source0.png", "--beside", "source1.png", "--model", str(tiny_model)]
    assert main([*given, *SMALL, *arguments, "-o", "out.png"]) == 0
    width = 120 + 2 * 6 + (1 + columns) * (32 + 6)
    assert pixels(tmp_path / "out.png").shape[1] == width


def test_the_command_writes_a_video_of_all_frames(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "clip", 11)
    given = ["visualize", "clip", "--frame-rate", "12", "--model", str(tiny_model), *SMALL]
    assert main([*given, "--layer", "4", "--at", "1", "-o", "out.mp4"]) == 0
    with av.open("out.mp4") as video:
        frames = list(video.decode(video=0))
        assert (len(frames), video.streams.video[0].average_rate) == (11, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a picture or video to write"),
        (("-o", "source0.png", "--overwrite"), "source0.png would write over the source"),
        (
            ("-o", "tall/source0.png", "--overwrite", "--beside", "tall/source0.png"),
            "tall/source0.png would write over the source",
        ),
        (("-o", "a.png", "--layer", "99"), "layer is 99; give one of 0, 1, 2"),
        (("-o", "a.png", "--layer", "up_blocks.9"), "no module 'up_blocks.9'"),
        (("-o", "a.png", "--layer", "mid_block"), "'mid_block' is not a residual block"),
        (("-o", "a.png", "--show", "attention", "--layer", "0"), "layer is 0; give one of 2"),
        (("-o", "a.png", "--show", "words"), "give a prompt with the words"),
        (("-o", "a.png", "--show", "words", "--layer", "4"), "give a prompt with the words"),
        (("-o", "a.png", "--at", "1.5"), "at is '1.5'; give numbers from 0 to 1"),
        (("-o", "a.png", "--at", "early"), "at is 'early'; give numbers from 0 to 1"),
        (("-o", "a.png", "--show", "colours"), "show is 'colours'; give features, attention"),
        (("-o", "a.png", "--beside", "none.png"), "none.png does not exist"),
        (
            (
                "-o",
                "a.txt",
            ),
            "a.txt has an unknown suffix",
        ),
        (("-o", "a.png", "--beside", "source0.png", "--job", "job"), "a job keeps one source"),
        (
            ("-o", "a.png", "--show", "prediction", "--prompt", "a", "--eta", "0.5"),
            "eta is 0.5",
        ),
        (
            ("-o", "a.png", "--show", "attention", "--beside", "tall/source0.png"),
            "the sources have several shapes",
        ),
    ],
)
def test_what_cannot_be_shown_is_told(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path, 1)
    save_frames(tmp_path / "tall", 1, 32, 64)
    code = main(["visualize", "source0.png", "--model", str(tiny_model), *SMALL, *arguments])
    assert_refused((code, *capsys.readouterr()), 2, message)
    assert not (tmp_path / "a.png").exists()


def test_an_unknown_layer_is_an_input_error(subject: Subject) -> None:
    with pytest.raises(InputError, match="has no self-attention"):
        show_attention(subject, ["up_blocks.0"], ())
