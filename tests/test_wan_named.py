"""Masks by words with Wan: maps against a naive reference, words and their tokens, and runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flow_models
import numpy as np
import pytest
import reference_flow as reference
import torch
from clips import smooth_frames
from command import Cli, pixels
from PIL import Image
from torch import Tensor
from torch.nn import functional
from toy_model import ToyModel

from pnpvideo.errors import InputError
from pnpvideo.models.flow import attention
from pnpvideo.models.flow.model import FlowModel
from pnpvideo.models.model import Window
from pnpvideo.models.network import as_cross_attention, is_unet
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.pipelines.flow import PnPFlowPipeline
from pnpvideo.sampling.find_named import named_maps, parts_of
from pnpvideo.sampling.windows import Scenes
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

KINDS = {"2.1": flow_models.save_tiny_wan, "a14b": flow_models.save_tiny_wan_a14b}
TOLD = (999.0, 980.0, 960.0, 940.0, 920.0, 900.0, 880.0, 860.0, 400.0, 100.0)
"""Those that are read, numbers 6, 7 and 8, are on both sides of A14B's boundary."""
READ = (6, 7, 8)
WORDS = (2, 3, 9)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return flow_models.saved_when_asked(KINDS, tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def models(folders: Callable[[str], Path]) -> Callable[[str], FlowModel]:
    return flow_models.in_float64_when_asked(folders)


def naive_maps(model: FlowModel, levels: Tensor, text: PromptEmbeddings) -> tuple[Tensor, Tensor]:
    """The direct and the spread maps of one window, from whole matrices of attention."""
    count, _, height, width = levels.shape[1:]
    plain, rows = reference.Text(hidden=text.hidden[0], pooled=None), []
    for step in READ:
        rows.append(reference.Row())
        net, clip = model.experts.at(TOLD[step]), levels[step].transpose(0, 1)
        reference.wan_velocity(net, clip, TOLD[step], plain, rows[-1])

    def enlarged(tokens: Tensor) -> Tensor:
        grid = tokens.view(count, 1, height // 2, width // 2)
        return functional.interpolate(grid, (height, width), mode="bilinear")[:, 0]

    def even(maps: Tensor) -> Tensor:
        return torch.stack([one / one.mean() for one in maps])

    direct = torch.zeros(count, height, width, dtype=torch.float64)
    for row in rows:
        for block in ("blocks.0", "blocks.1"):
            shares = row.seen[block, "text"][:, list(WORDS)].sum(1)
            direct += even(enlarged(shares)) / 6
    spread = direct
    for _ in range(2):
        passed = torch.zeros_like(direct)
        for row in rows:
            query, key = (
                row.seen["blocks.1", kind].view(count, -1, 2, 12) for kind in ("qn", "kn")
            )
            for piece in range(count):
                cells = spread[piece].view(height // 2, 2, width // 2, 2).mean((1, 3)).flatten()
                for head in range(2):
                    scores = query[piece, :, head] @ key[piece, :, head].T / 12**0.5
                    small = scores.softmax(1) @ cells
                    grid = small.view(1, 1, height // 2, width // 2)
                    passed[piece] += functional.interpolate(grid, (height, width), mode="bilinear")[
                        0, 0
                    ]
        spread = even(passed)
    return direct, spread


@pytest.mark.usefixtures("exactly")
@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_maps_are_the_references(
    name: str, models: Callable[[str], FlowModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a scene of two windows and one of a picture, read where each transformer predicts."""
    monkeypatch.setattr(attention, "_AT_ONCE", 7)
    model = models(name)
    levels = torch.randn(
        len(TOLD) + 1, 5, 4, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    text = PromptEmbeddings(hidden=model.encode_texts(["a grey stone"]).hidden[:, :16])
    trajectory = Trajectory(latents=LatentMemory(levels), timesteps=TOLD)
    scenes = Scenes(scenes=(range(4), range(4, 5)), window=Window(length=3, stride=1))
    with model.network() as network:
        assert not is_unet(network)
        pairs = list(named_maps(network, trajectory, text, WORDS, batch_size=3, scenes=scenes))
    parts = parts_of(5, 3, scenes)
    assert parts == [range(3), range(3, 4), range(4, 5)]
    assert [len(direct) for direct, _ in pairs] == [3, 1, 1]

    windows = [naive_maps(model, levels[:, first : first + 3], text) for first in (0, 1)]
    single = naive_maps(model, levels[:, 4:], text)
    first = torch.tensor([1, 2 / 3, 1 / 3, 0], dtype=torch.float64)[:, None, None]
    for kind in (0, 1):
        both = torch.zeros(4, 4, 6, dtype=torch.float64)
        both[:3] += first[:3] * windows[0][kind]
        both[1:] += (1 - first[1:]) * windows[1][kind]
        theirs = torch.cat([both, single[kind]])
        ours = torch.cat([pair[kind] for pair in pairs])
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-10


@torch.no_grad()
def test_maps_do_not_depend_on_where_layers_are(folders: Callable[[str], Path]) -> None:
    """Layers that are loaded for their work are read as others are."""
    generator = torch.Generator().manual_seed(2)
    levels = torch.randn(len(TOLD) + 1, 2, 4, 4, 6, generator=generator)
    trajectory = Trajectory(latents=LatentMemory(levels), timesteps=TOLD)
    scenes = Scenes(scenes=(range(2),), window=Window(length=3, stride=1))
    found = []
    for is_offloaded in (False, True):
        pipeline = PnPFlowPipeline.from_pretrained(folders("a14b"), dtype=torch.float32)
        if is_offloaded:
            pipeline.enable_layer_offload(torch.device("cpu"))
        text = pipeline.model.encode_texts(["a grey stone"])
        with pipeline.model.network() as network:
            maps = named_maps(network, trajectory, text, WORDS, batch_size=2, scenes=scenes)
            found += [torch.cat(pair) for pair in maps]
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the red dog", ["red", "dog"]),
        ("A Dog, and the cat!", ["Dog", "and", "cat"]),
        ("  two   old-trees ", ["two", "oldtrees"]),
        ("dogs &amp; cats", ["dogs", "cats"]),
        ("the", []),
        (" , ! ", []),
        ("\U0001f436", []),
    ],
)
def test_words_and_their_tokens(
    text: str, words: list[str], models: Callable[[str], FlowModel]
) -> None:
    """Numbers are those of the embedding, and of letters: neither of marks nor of punctuation."""
    model = models("2.1")
    tokenizer = model.pipe.tokenizer
    found = model.words_in(text)
    assert [word for word, _ in found] == words
    cleaned = re.sub(r"\s+", " ", text.replace("&amp;", "&")).strip()
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(cleaned).input_ids)
    for word, numbers in found:
        assert "".join(tokens[number] for number in numbers).replace("\u2581", "") == word


def test_networks_without_cross_attention_are_refused() -> None:
    with pytest.raises(InputError, match="finding a thing needs a model with cross-attention"):
        as_cross_attention(ToyModel().opened, "finding a thing")


# From files to files

COUNT = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for number, frame in enumerate(smooth_frames(COUNT, 96, 64)):
        Image.fromarray(frame).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def attentive(
    folders: Callable[[str], Path], clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Tensor]:
    """A model with attention made by hand: places attend to words where the first channel of the
    clip's latents is large, in a quarter of it, and to places that are like them.

    Returns the second latent frame's first channel, too.
    """
    pipeline = PnPFlowPipeline.from_pretrained(folders("2.1"), dtype=torch.float32)
    pipe: Any = pipeline.pipe
    frames = np.stack([pixels(path) for path in sorted(clip.iterdir())])
    images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
    transformer = pipe.transformer
    with torch.no_grad():
        latents = pipeline.model.autoencoder.encode(images)[:, 0]
        tokens = functional.avg_pool2d(latents, 2)
        # So that noise hides no more of them than of a trained model's.
        means, stds = pipe.vae.config.latents_mean, pipe.vae.config.latents_std
        spread = float(tokens.std())
        pipe.vae.register_to_config(
            latents_mean=[means[0] + stds[0] * float(tokens.quantile(0.75)), *means[1:]],
            latents_std=[stds[0] * spread, *stds[1:]],
        )
        text = transformer.condition_embedder.text_embedder
        words, padding = (
            text(pipeline.model.encode_texts(["the square"]).hidden)[0, part].mean(0)
            for part in (slice(5, 12), slice(20, None))
        )
        for part in (transformer.patch_embedding, transformer.condition_embedder.time_proj):
            for weight in part.parameters():
                weight.zero_()
        transformer.patch_embedding.weight[0, 0] = 0.25
        for block in transformer.blocks:
            for weight in block.parameters():
                weight.zero_()
            block.norm2.weight.fill_(1)
            for heads in (0, 12):  # The first channel of each of the two heads.
                for layer in (block.attn1.to_q, block.attn1.to_k, block.attn2.to_q):
                    layer.weight[heads, 0] = 1
                block.attn2.to_k.weight[heads] = words - padding
                middle = (words - padding) @ (words + padding) / 2
                block.attn2.to_k.bias[heads] = -middle
            for attn in (block.attn1, block.attn2):
                attn.norm_q.weight.fill_(2)
                attn.norm_k.weight.fill_(1)
    folder = tmp_path_factory.mktemp("attentive") / "model"
    pipe.save_pretrained(folder)
    return folder, latents[1] / spread


@pytest.mark.parametrize("method", ["flowalign", "uniedit"])
def test_what_words_name_in_a_clip_is_edited(
    method: str, attentive: tuple[Path, Tensor], clip: Path, cli: Cli, tmp_path: Path
) -> None:
    """Read from latents with noise, and from inverted ones; the rest stays, pixel for pixel."""
    folder, attended = attentive
    code, _, told = cli(
        str(clip), "--prompt", "a stone", "--size", "96x64", "--steps", "8", "--method", method,
        "--mask-from-prompt", "the square", "--mask-feather", "0", "-o", "out/", model=str(folder),
    )  # fmt: skip
    assert code == 0, told
    made, source = (
        np.stack([pixels(path) for path in sorted(place.iterdir())])
        for place in (tmp_path / "out", clip)
    )
    assert made.shape == source.shape
    edited = torch.from_numpy((made != source).any(-1)).float()
    # The second latent's four frames have one map, and edges of their own.
    for mask in functional.avg_pool2d(edited, 4)[1:5] > 0.5:
        assert 0.2 < mask.float().mean() < 0.6
        assert attended[mask].mean() > attended[~mask].mean() + 1
    assert (tmp_path / "out-mask.png").is_file()


def test_what_does_not_stand_out_is_not_found(
    folders: Callable[[str], Path], clip: Path, cli: Cli, tmp_path: Path
) -> None:
    code, _, told = cli(
        str(clip), "--prompt", "a stone", "--size", "96x64", "--steps", "2",
        "--mask-from-prompt", "the square", "-o", "out/", model=str(folders("2.1")),
    )  # fmt: skip
    assert code == 2
    assert "'the square' is not found in the source" in told
    assert not (tmp_path / "out").exists()
