"""Embeddings equal those of diffusers' own pipelines."""

import pytest
import reference_pnp as reference
import torch
from diffusers import AutoencoderTiny, DDIMScheduler
from diffusers import StableDiffusionPipeline as StockPipeline
from diffusers import StableDiffusionXLPipeline as StockXLPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pnpvideo.catalogue.find_model import EMBEDDED
from pnpvideo.models.prompt import encode_prompt
from pnpvideo.models.prompt_marks import foreign_marks

WEIGHT = "a weight; --prompt-weights reads it"
OTHER_WEIGHT = "a weight; with --prompt-weights write it as (word:1.2)"
BREAK = "an end of what is read together; --prompt-weights reads it"
TEXTS = ["a photo of a red star on sand", ""]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(EMBEDDED, subfolder="tokenizer")


def text_config(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextConfig:
    torch.manual_seed(seed)
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=12,
        max_position_embeddings=tokenizer.model_max_length,
        eos_token_id=tokenizer.eos_token_id,
    )


def test_one_encoder_as_in_sd_1_and_2(tokenizer: CLIPTokenizer) -> None:
    encoder = CLIPTextModel(text_config(tokenizer, 0)).eval()
    stock = StockPipeline(
        vae=AutoencoderTiny(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=reference.tiny_unet(),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    expected = stock.encode_prompt(TEXTS, CPU, 1, False)[0]
    ours = encode_prompt(TEXTS, [(tokenizer, encoder)], CPU)
    assert ours.pooled is None
    torch.testing.assert_close(ours.hidden.double(), expected.double())


def test_two_encoders_as_in_sdxl(tokenizer: CLIPTokenizer) -> None:
    first = CLIPTextModel(text_config(tokenizer, 0)).eval()
    second = CLIPTextModelWithProjection(text_config(tokenizer, 1)).eval()
    stock = StockXLPipeline(
        vae=AutoencoderTiny(),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=reference.tiny_sdxl_unet(),
        scheduler=DDIMScheduler(),
    )
    expected, _, pooled, _ = stock.encode_prompt(
        TEXTS, device=CPU, do_classifier_free_guidance=False
    )
    ours = encode_prompt(TEXTS, [(tokenizer, first), (tokenizer, second)], CPU)
    torch.testing.assert_close(ours.hidden.double(), expected.double())
    torch.testing.assert_close(ours.pooled.double(), pooled.double())


@pytest.mark.parametrize(
    ("prompt", "cut"),
    [
        ("star " * 38, ""),
        ("star " * 38 + "on snow", "on snow"),
        ("Star, " * 18 + "a red Moon", "moon"),
        ("x" * 10_000, "x" * 48 + " ... " + "x" * 47),
        ("a star on sand", ""),
    ],
)
def test_what_a_model_does_not_see_of_a_prompt_is_said(
    tokenizer: CLIPTokenizer, caplog: pytest.LogCaptureFixture, prompt: str, cut: str
) -> None:
    encoder = CLIPTextModel(text_config(tokenizer, 0)).eval()
    embedded = encode_prompt([prompt, ""], [(tokenizer, encoder)], CPU)
    assert embedded.hidden.shape == (2, 40, 16)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("pnpvideo")]
    assert len(told) == bool(cut)
    for message in told:
        assert "is longer than the 40 tokens" in message
        _, _, seen = message.removesuffix(" (--prompt-weights lets it see all)").rpartition("see ")
        assert seen == repr(cut) or len(cut) == 100


def test_a_tokenizer_that_does_not_say_how_long_texts_are(
    tokenizer: CLIPTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = CLIPTextModel(text_config(tokenizer, 0)).eval()
    expected = encode_prompt(["star " * 39], [(tokenizer, encoder)], CPU).hidden
    endless = CLIPTokenizer.from_pretrained(EMBEDDED, subfolder="tokenizer")
    endless.model_max_length = int(1e30)
    assert torch.equal(encode_prompt(["star " * 39], [(endless, encoder)], CPU).hidden, expected)
    assert ["does not see 'star' (" in message for message in caplog.messages] == [True] * 2


@pytest.mark.parametrize(
    ("prompt", "marks"),
    [
        ("a (red:1.2) star", [("(red:1.2)", WEIGHT)]),
        ("a ((red)) star", [("((red))", WEIGHT)]),
        ("a [[red]] star", [("[[red]]", WEIGHT)]),
        ("a (red star)1.3", [("(red star)1.3", OTHER_WEIGHT)]),
        ("a red++ star", [("red++", OTHER_WEIGHT)]),
        ("a star <lora:ink_v2:0.8>", [("<lora:ink_v2:0.8>", "a LoRA; give its file with --lora")]),
        ("a <hypernet:x:1> star", [("<hypernet:x:1>", "a file")]),
        (
            "embedding:bad-hands, dark",
            [
                (
                    "embedding:bad-hands",
                    "an embedding; give its file with --embedding and say its word alone",
                )
            ],
        ),
        ("a [cat:dog:0.5]", [("[cat:dog:0.5]", "a change over the steps")]),
        ("a [cat|dog]", [("[cat|dog]", "a change over the steps")]),
        ("a {red|blue} star", [("{red|blue}", "a choice")]),
        ("a __colour__ star", [("__colour__", "a choice")]),
        ("a star BREAK a moon", [("BREAK", BREAK)]),
        ("a star AND a moon", [("AND", "a new prompt")]),
        (
            "(a:1.1), (b:1.2), <lora:x:1>",
            [("(a:1.1)", WEIGHT), ("<lora:x:1>", "a LoRA; give its file with --lora")],
        ),
        ("a photo (1998) of a star, at 12:30 [sic] & more: it's a < b > c, 50+ of them", []),
        ("ROCK AND ROLL", []),
        ("", []),
    ],
)
def test_marks_of_other_tools_are_told(prompt: str, marks: list[tuple[str, str]]) -> None:
    assert list(foreign_marks(prompt)) == [
        f"{mark!r} in the prompt is read as plain words, not as {meaning}"
        for mark, meaning in marks
    ]
    left = [meaning for _, meaning in marks if meaning not in (WEIGHT, BREAK)]
    read = list(foreign_marks(prompt, weights=True))
    assert [told.partition(", not as ")[2] for told in read] == left
