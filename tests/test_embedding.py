"""Textual inversions from files: their words are read, told, or refused with the reason."""

import logging
from pathlib import Path

import pytest
import torch
from command import Cli, assert_refused, names
from diffusers import StableDiffusionPipeline
from models import WIDTH, save_tiny_sdxl
from safetensors.torch import save_file
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.loading.embedding import find_embedding
from pnpvideo.pipelines.components import Components

TOY = "<toy>"


def embedded(parts: Components, text: str) -> Tensor:
    return parts.encode_texts([text]).hidden


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize(
    ("name", "tensor", "word", "own"),
    [
        ("learned.safetensors", TOY, TOY, ""),
        ("Bad Hands.safetensors", "emb_params", "Bad Hands", ""),
        ("learned.safetensors", TOY, "My-Word", ":My-Word"),
    ],
)
def test_each_form_is_read_as_diffusers_reads_its_vectors(
    tiny_model: Path, tmp_path: Path, vectors: int, name: str, tensor: str, word: str, own: str
) -> None:
    learned = torch.randn(vectors, WIDTH)
    save_file({tensor: learned}, tmp_path / name)
    parts = Components.from_pretrained(
        tiny_model, dtype=torch.float32, embeddings=[f"{tmp_path / name}{own}"]
    )
    stock = StableDiffusionPipeline.from_pretrained(tiny_model)
    stock.load_textual_inversion({"<stock>": learned})
    expected = stock.encode_prompt("a photo of <stock>, dark", "cpu", 1, False)[0]
    for spelled in (word, word.upper(), word.lower()):
        assert torch.equal(embedded(parts, f"a photo of {spelled}, dark"), expected)
    # Its tokens are counted as they are read, so that what it names is found.
    tokens = dict(parts.model.words_in(f"a photo of {word}"))
    assert tokens[word.lower()] == [4]
    assert sum(map(len, tokens.values())) == 2 + vectors


def test_one_for_two_text_encoders(tmp_path: Path) -> None:
    model = save_tiny_sdxl(tmp_path / "xl", hidden_size=32)
    file = tmp_path / "style.safetensors"
    save_file({"clip_g": torch.randn(2, 32), "clip_l": torch.randn(2, WIDTH)}, file)
    plain = Components.from_pretrained(model, dtype=torch.float32)
    parts = Components.from_pretrained(model, dtype=torch.float32, embeddings=[file])
    before, after = embedded(plain, "a style"), embedded(parts, "a style")
    for part in (slice(WIDTH), slice(WIDTH, None)):
        assert not torch.allclose(before[..., part], after[..., part], atol=1e-3)
    assert torch.equal(embedded(plain, "a star"), embedded(parts, "a star"))


def test_a_run_with_several(cli: Cli, picture: Path, tmp_path: Path) -> None:
    """From the settings that it writes it is repeated; another word for the same vectors is not
    another picture, another embedding is."""
    for name in ("a", "b"):
        save_file({f"<{name}>": 5 * torch.randn(2, WIDTH)}, tmp_path / f"{name}.safetensors")
    both = ("--embedding", "a.safetensors", "--embedding", "b.safetensors:<other>")
    results = []
    for prompt in ("one <a>", "one <other>", "one <b>"):
        given = ("--prompt", prompt, "--steps", "2", "--tau-f", "0", "--tau-a", "0")
        code, _, err = cli(str(picture), *given, *both, "-o", "out.png", "--overwrite")
        assert (code, err) == (0, "")
        results.append((tmp_path / "out.png").read_bytes())
        if prompt == "one <other>":
            (tmp_path / "out.png.yaml").rename(tmp_path / "again.yaml")
    assert len(set(results)) == 3
    assert cli("--config", "again.yaml", "--overwrite")[0] == 0
    assert (tmp_path / "out.png").read_bytes() == results[1]


def test_a_job_tells_words_apart(cli: Cli, picture: Path, tmp_path: Path) -> None:
    """The same two files with their words changed over are another run."""
    for name in ("a", "b"):
        save_file({"emb_params": 5 * torch.randn(1, WIDTH)}, tmp_path / f"{name}.safetensors")
    results = []
    for first, second in (("<x>", "<y>"), ("<y>", "<x>")):
        given = ("--prompt", "<x>", "--steps", "2", "--tau-f", "0", "--tau-a", "0")
        words = (f"a.safetensors:{first}", "--embedding", f"b.safetensors:{second}")
        how = ("--job", "job", "-o", "out.png", "--overwrite")
        code, _, err = cli(str(picture), *given, "--embedding", *words, *how)
        assert (code, err) == (0, "")
        results.append((tmp_path / "out.png").read_bytes())
    assert results[0] != results[1]


def test_the_words_are_told(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file({"emb_params": torch.randn(1, WIDTH)}, tmp_path / "toy.safetensors")
    with caplog.at_level(logging.INFO, "pnpvideo"):
        Components.from_pretrained(tiny_model, embeddings=[tmp_path / "toy.safetensors"])
    assert "prompts can use the word 'toy'" in caplog.messages


@pytest.mark.parametrize(
    ("given", "content", "message"),
    [
        ("none.safetensors", None, "there is no embedding none.safetensors"),
        ("old.pt", b"\x80\x04.", "there is no embedding old.pt; give a .safetensors file"),
        (".", None, "there is no embedding learned_embeds.safetensors"),
        ("a.safetensors", b"\xff" * 64, "a.safetensors is not an embedding"),
        ("a.safetensors", {"<a>": torch.zeros(1, 768)}, "768 channels and the text encoder 16"),
        ("a.safetensors", {"<a>": torch.zeros(2, 3, WIDTH)}, "its <a> has the shape (2, 3, 16)"),
        ("a.safetensors", {"<a>": torch.zeros(0, WIDTH)}, "its <a> has the shape (0, 16)"),
        ("a.safetensors", {"x": torch.zeros(1), "y": torch.zeros(1)}, "it holds 2 tensors"),
        (
            "a.safetensors",
            {"clip_l": torch.zeros(1, WIDTH), "clip_g": torch.zeros(1, WIDTH)},
            "it is for SDXL, and the model is Stable Diffusion 1.x or 2.x",
        ),
        (
            "a.safetensors:star</w>",
            {"<a>": torch.zeros(1, WIDTH)},
            "the model already has the word 'star</w>' of a.safetensors; give another word",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used(
    cli: Cli,
    picture: Path,
    tmp_path: Path,
    given: str,
    content: bytes | dict[str, Tensor] | None,
    message: str,
) -> None:
    path = tmp_path / given.partition(":")[0]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_file(content, path)
    before = names(tmp_path)
    result = cli(str(picture), "--prompt", "x", "--embedding", given, "-o", "out.png")
    assert_refused(result, 2, message)
    assert names(tmp_path) == before


def test_the_same_word_twice(cli: Cli, picture: Path, tmp_path: Path) -> None:
    save_file({TOY: torch.randn(2, WIDTH)}, tmp_path / "a.safetensors")
    twice = ("--embedding", "a.safetensors", "--embedding", "a.safetensors")
    result = cli(str(picture), "--prompt", "x", *twice, "-o", "out.png")
    assert_refused(result, 2, "already has the word '<toy>' of a.safetensors; give another word")


def test_paths_and_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "toy"
    folder.mkdir()
    for path in (folder / "learned_embeds.safetensors", tmp_path / "a:b.safetensors"):
        path.write_bytes(b"")
    assert find_embedding("toy") == (Path("toy/learned_embeds.safetensors"), "")
    assert find_embedding("toy:<x>") == (Path("toy/learned_embeds.safetensors"), "<x>")
    assert find_embedding("a:b.safetensors") == (Path("a:b.safetensors"), "")
    assert find_embedding("a:b.safetensors:c") == (Path("a:b.safetensors"), "c")


def test_no_pickle_is_read(tiny_model: Path, tmp_path: Path) -> None:
    parts = Components.from_pretrained(tiny_model)
    (tmp_path / "learned_embeds.bin").write_bytes(b"\x80\x04.")
    for given, how in (
        (str(tmp_path / "learned_embeds.bin"), {}),
        (tmp_path / "learned_embeds.bin", {"token": TOY}),
        ([str(tmp_path)], {"weight_name": "learned_embeds.bin"}),
        (str(tmp_path), {"use_safetensors": False}),
    ):
        with pytest.raises(InputError, match=r"from a \.safetensors file only"):
            parts.load_textual_inversion(given, **how)
    with pytest.raises(OSError, match=r"learned_embeds\.safetensors"):
        parts.load_textual_inversion(str(tmp_path))
