"""Embeddings equal those of diffusers' own pipelines."""

import pytest
import reference_pnp as reference
import torch
from diffusers import AutoencoderTiny, DDIMScheduler
from diffusers import StableDiffusionPipeline as StockPipeline
from diffusers import StableDiffusionXLPipeline as StockXLPipeline
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from pnpvideo.models.load import EMBEDDED
from pnpvideo.models.prompt import encode_prompt

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


def test_a_prompt_that_is_too_long_is_said_to_be_cut(tokenizer: CLIPTokenizer) -> None:
    encoder = CLIPTextModel(text_config(tokenizer, 0)).eval()
    with pytest.warns(UserWarning, match="its end is ignored"):
        encode_prompt(["star " * 200], [(tokenizer, encoder)], CPU)
