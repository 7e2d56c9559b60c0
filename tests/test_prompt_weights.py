"""Weights, breaks and long prompts, beside a naive reading of them and beside compel."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Cli, save_frames
from compel import Compel, ReturnedEmbeddingsType
from models import save_tiny_sdxl
from safetensors.torch import save_file
from torch import Tensor

from pnpvideo import PnPVideoPipeline
from pnpvideo.models.network import Batch
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.models.prompt_weights import read_weights
from pnpvideo.models.stable_diffusion.unet import UNet

LONG = ", ".join(f"a {word} star on sand" for word in ("red", "blue", "jade", "gold") * 4)
"""Some 95 tokens, for models that read 40 at once: three chunks."""

FAST: dict[str, Any] = {"steps": 2, "output_type": "latent"}


@pytest.fixture(scope="module", params=["sd", "xl"])
def pipeline(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    load: Callable[..., PnPVideoPipeline],
) -> PnPVideoPipeline:
    folder = tiny_model
    if request.param == "xl":
        folder = save_tiny_sdxl(tmp_path_factory.mktemp("xl"), hidden_size=32)
    return load(folder, torch.float64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [[]]),
        ("plain words, and 12:30", [[("plain words, and 12:30", 1)]]),
        ("an (important) word", [[("an ", 1), ("important", 1.1), (" word", 1)]]),
        ("a [faint] word", [[("a ", 1), ("faint", 1 / 1.1), (" word", 1)]]),
        ("(unbalanced", [[("unbalanced", 1.1)]]),
        ("[unbalanced", [[("unbalanced", 1 / 1.1)]]),
        ("un) balanced]", [[("un) balanced]", 1)]]),
        (r"\(literal\] \[a\\", [[("(literal] [a\\", 1)]]),
        ("(unnecessary)(parens)", [[("unnecessaryparens", 1.1)]]),
        ("(red: 1.3 )", [[("red", 1.3)]]),
        ("(red:.5) (red:-2) (red:+2.)", [[("red", 0.5), ("red", -2), ("red", 2)]]),
        ("[red:1.3)", [[("red:1.3)", 1 / 1.1)]]),
        ("(red:much)", [[("red:much", 1.1)]]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                [
                    ("a ", 1), ("house", 1.3 * 1.1**2), ("on", 1), (" a ", 1.1), ("hill", 0.55),
                    (", sun, ", 1.1), ("sky", 1.1**4), (".", 1.1),
                ]
            ],
        ),
        ("a star BREAK a moon", [[("a star ", 1)], [(" a moon", 1)]]),
        ("(a BREAK b:2) BREAK", [[("a ", 2)], [(" b", 2)], []]),
        ("BREAKFAST", [[("BREAKFAST", 1)]]),
    ],
)  # fmt: skip
def test_marks_are_read(text: str, expected: list[list[tuple[str, float]]]) -> None:
    found = [[(part.text, part.weight) for part in section] for section in read_weights(text)]
    assert [[words for words, _ in section] for section in found] == [
        [words for words, _ in section] for section in expected
    ]
    for section, wanted in zip(found, expected, strict=True):
        assert [w for _, w in section] == pytest.approx([w for _, w in wanted])


def encoders_of(pipeline: PnPVideoPipeline) -> list[tuple[Any, Any]]:
    second = [(pipeline.tokenizer_2, pipeline.text_encoder_2)] if pipeline.text_encoder_2 else []
    return [(pipeline.tokenizer, pipeline.text_encoder), *second]


def naive(pipeline: PnPVideoPipeline, chunks: list[list[tuple[str, float]]]) -> PromptEmbeddings:
    """Each chunk by itself, in words of one weight each, token for token; its own padding."""
    parts, pooled = [], None
    for tokenizer, encoder in encoders_of(pipeline):
        layer = -2 if pipeline.text_encoder_2 else -1
        rows: list[Tensor] = []

        def states(ids: list[int]) -> tuple[Tensor, Any]:
            missing = 40 - len(ids)
            padded = torch.tensor([[*ids, *[tokenizer.pad_token_id] * missing]])  # noqa: B023
            with torch.no_grad():
                output = encoder(padded, output_hidden_states=True)  # noqa: B023
            hidden = output.hidden_states[layer]  # noqa: B023
            if layer == -1:  # noqa: B023
                hidden = output.last_hidden_state
            return hidden[0], output[0]

        nothing, _ = states([tokenizer.bos_token_id, tokenizer.eos_token_id])
        for number, chunk in enumerate(chunks):
            ids, weights = [tokenizer.bos_token_id], [1.0]
            for words, weight in chunk:
                for token in tokenizer.tokenize(words):
                    ids.append(tokenizer.convert_tokens_to_ids(token))
                    weights.append(weight)
            ids.append(tokenizer.eos_token_id)
            hidden, first = states(ids)
            if number == 0:
                pooled = first
            for place, weight in enumerate(weights):
                moved = hidden[place] - nothing[place]
                hidden[place] = nothing[place] + weight * moved
            rows.append(hidden)
        parts.append(torch.cat(rows))
    hidden = torch.cat(parts, dim=1)[None]
    if chunks == [[]] and len(parts) == 2:
        # SDXL models want nothing for no text.
        return PromptEmbeddings(hidden=0 * hidden, pooled=0 * pooled)
    return PromptEmbeddings(hidden=hidden, pooled=pooled if len(parts) == 2 else None)


SENTENCE = "a red star on sand, "  # Six tokens.
CASES: dict[str, list[list[tuple[str, float]]]] = {
    "a (red:1.4) star on [sand]": [
        [("a", 1), ("red", 1.4), ("star on", 1), ("sand", 1 / 1.1)],
    ],
    "(a (red:0) star:1.2)": [[("a", 1.2), ("red", 0), ("star", 1.2)]],
    "a star BREAK on (sand)": [[("a star", 1)], [("on", 1), ("sand", 1.1)]],
    # 36 of 38 tokens, then the comma before the last words.
    SENTENCE * 6 + "a red star on (snow:2)": [
        [(SENTENCE * 6, 1)],
        [("a red star on", 1), ("snow", 2)],
    ],
    # Without a comma near the end the 38th token is the last.
    "star " * 39: [[("star " * 38, 1)], [("star", 1)]],
    "BREAK a star BREAK": [[("a star", 1)]],
    "": [[]],
}


@pytest.mark.parametrize("text", CASES)
def test_embeddings_are_those_of_a_naive_reading(pipeline: PnPVideoPipeline, text: str) -> None:
    expected = naive(pipeline, CASES[text])
    found = pipeline.encode_texts([text], weights=True)
    assert found.hidden.shape[1] == 40 * len(CASES[text])
    torch.testing.assert_close(found.hidden, expected.hidden, rtol=1e-9, atol=1e-9)
    if expected.pooled is None:
        assert found.pooled is None
    else:
        torch.testing.assert_close(found.pooled, expected.pooled, rtol=1e-9, atol=1e-9)


def test_without_marks_they_are_as_before(pipeline: PnPVideoPipeline) -> None:
    texts = ["a photo of a red star on sand", ""]
    before, after = (pipeline.encode_texts(texts, weights=weights) for weights in (False, True))
    torch.testing.assert_close(after.hidden, before.hidden, rtol=1e-12, atol=1e-12)
    if before.pooled is not None:
        torch.testing.assert_close(after.pooled, before.pooled, rtol=1e-12, atol=1e-12)


def test_compel_weighs_alike(tiny_model: Path) -> None:
    """compel writes (red)1.3; below 1 it goes another way."""
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    compel = Compel(pipeline.tokenizer, pipeline.text_encoder)
    plain = pipeline.encode_texts(["a red star"]).hidden
    for theirs, ours in (
        ("a (red)1.3 star", "a (red:1.3) star"),
        ("a red++ star", f"a (red:{1.1**2}) star"),
        ("a (red (star)2)1.5", "a (red (star:2):1.5)"),
    ):
        expected = compel(theirs)
        found = pipeline.encode_texts([ours], weights=True).hidden
        assert not torch.allclose(found, plain, atol=1e-3)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_texts_of_several_lengths_are_each_as_if_alone(pipeline: PnPVideoPipeline) -> None:
    """The network's output for a text does not depend on the text beside it."""
    texts = [
        pipeline.encode_texts([text], weights=True)
        for text in (LONG, "a star BREAK a moon", "a star")
    ]
    lengths = [text.hidden.shape[1] // 40 for text in texts]
    assert (lengths[1], lengths[2]) == (2, 1)
    together = concatenate(texts)
    assert together.hidden.shape[1] == 40 * math.lcm(*lengths)
    network = UNet(pipeline.unet, 4)
    latents = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        whole = network.predict(Batch(latents=latents, timestep=401, texts=together))
        for i, text in enumerate(texts):
            alone = network.predict(Batch(latents=latents[i : i + 1], timestep=401, texts=text))
            torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-9, atol=1e-9)


def test_prompts_of_several_lengths_share_a_run(pipeline: PnPVideoPipeline) -> None:
    frames = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    prompts, negatives = [LONG, "a (star:1.5) BREAK on sand"], ["a moon", LONG + ", dark"]

    def run(chosen: list[str], against: list[str], **more: Any) -> Any:
        given = {"negative_prompt": against, "inversion_prompt": "a BREAK b", **FAST, **more}
        seed = torch.Generator().manual_seed(0)
        return pipeline(chosen, frames, prompt_weights=True, generator=seed, **given)

    both = run(prompts, negatives).frames
    for i in range(2):
        alone = run(prompts[i : i + 1], negatives[i : i + 1]).frames
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-6, atol=1e-6)
    seen: list[tuple[int, ...]] = []

    def see(pipe: Any, step: int, timestep: float, given: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(tuple(given["prompt_embeds"].shape[:2]))
        return {"prompt_embeds": given["prompt_embeds"].clone()}

    names = ["prompt_embeds"]
    after = {"callback_on_step_end": see, "callback_on_step_end_tensor_inputs": names}
    again = run(prompts, negatives, **after).frames
    torch.testing.assert_close(again, both, rtol=1e-6, atol=1e-6)
    assert len(seen) == 2
    assert all(rows == 4 and tokens % 40 == 0 for rows, tokens in seen)


def test_a_generated_source_reads_them(pipeline: PnPVideoPipeline) -> None:
    made = [
        pipeline(
            "a moon",
            guidance_prompt=text,
            prompt_weights=True,
            generator=torch.Generator().manual_seed(0),
            **FAST,
        ).frames
        for text in (LONG, LONG.replace("gold", "(gold:3)"))
    ]
    assert not torch.allclose(made[0], made[1], atol=1e-4)


def test_words_of_embeddings_have_weights(tiny_model: Path, tmp_path: Path) -> None:
    save_file({"<toy>": torch.randn(3, 16)}, tmp_path / "toy.safetensors")
    pipeline = PnPVideoPipeline.from_pretrained(
        tiny_model, dtype=torch.float64, embeddings=[tmp_path / "toy.safetensors"]
    )
    plain, none, weighted = (
        pipeline.encode_texts([f"a {word} star"], weights=True).hidden[0]
        for word in ("<toy>", "(<toy>:0)", "(<toy>:2)")
    )
    nothing = pipeline.encode_texts([""], weights=True).hidden[0]
    three = slice(2, 5)
    torch.testing.assert_close(none[three], nothing[three], rtol=1e-9, atol=1e-9)
    moved = nothing[three] + 2 * (plain[three] - nothing[three])
    torch.testing.assert_close(weighted[three], moved, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weighted[5:], plain[5:], rtol=1e-9, atol=1e-9)


def test_on_the_command_line(cli: Cli, tmp_path: Path) -> None:
    """The settings that are written repeat it, and a job tells it from a run without."""
    (picture,) = save_frames(tmp_path, 1)
    prompt = "a (red:3) star BREAK " + LONG
    given = ("--prompt", prompt, "--steps", "2", "--tau-f", "0", "--tau-a", "0", "--job", "job")
    how = (*given, "-o", "out.png", "--overwrite")
    code, _, err = cli(str(picture), *how, "--prompt-weights")
    assert (code, err) == (0, "")
    weighted = (tmp_path / "out.png").read_bytes()
    (tmp_path / "out.png.yaml").rename(tmp_path / "again.yaml")
    code, _, err = cli(str(picture), *how)
    assert code == 0
    assert "is read as plain words, not as a weight; --prompt-weights reads it" in err
    assert "(--prompt-weights lets it see all)" in err
    assert (tmp_path / "out.png").read_bytes() != weighted
    code, _, err = cli("--config", "again.yaml", "--overwrite")
    assert (code, err) == (0, "")
    assert (tmp_path / "out.png").read_bytes() == weighted


def test_embeddings_that_compel_makes(pipeline: PnPVideoPipeline) -> None:
    """As docs/prompts.md says; without marks they are those of the text."""
    frames = torch.rand(1, 3, 32, 32)
    pipeline.to(torch.float32)
    large = pipeline.text_encoder_2 is not None
    kind = ReturnedEmbeddingsType
    compels = [
        Compel(
            tokenizer,
            encoder,
            truncate_long_prompts=False,
            returned_embeddings_type=kind.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
            if large
            else kind.LAST_HIDDEN_STATES_NORMALIZED,
        )
        for tokenizer, encoder in encoders_of(pipeline)
    ]

    def embeds(text: str) -> dict[str, Tensor]:
        found = {"prompt_embeds": torch.cat([compel(text) for compel in compels], dim=-1)}
        if large:
            (found["pooled_prompt_embeds"],) = (pipeline.encode_texts([text]).pooled,)
        return found

    def latents(**given: Any) -> Tensor:
        seed = torch.Generator().manual_seed(0)
        found: Tensor = pipeline(video=frames, generator=seed, **given, **FAST).frames
        return found

    plain = latents(prompt="a red star")
    torch.testing.assert_close(latents(**embeds("a red star")), plain, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(latents(**embeds("a red++++ star")), plain, atol=1e-3)
    long = embeds(LONG)
    assert long["prompt_embeds"].shape[1] > 80
    assert latents(**long).shape == plain.shape
    pipeline.to(torch.float64)
