"""Pipelines of Stable Diffusion's sizes with random weights, as slow as trained ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

# Stable Diffusion's configurations where they differ from diffusers' defaults.
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
_UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "tiny": {
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "block_out_channels": (16, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "norm_num_groups": 4,
        "layers_per_block": 1,
    },
    "sdxl": {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
# Width, heads and layers of the text encoders.
_TEXTS = {
    "sd15": [(768, 12, 12)],
    "sd21": [(1024, 16, 23)],
    "tiny": [(32, 2, 2)],
    "sdxl": [(768, 12, 12), (1280, 20, 32)],
}
MODELS = ("embedded", *_UNETS)


def make_pipeline(name: str, device: torch.device, dtype: torch.dtype) -> PnPVideoPipeline:
    """Return one of MODELS on its device, without progress bars."""
    pipeline = PnPVideoPipeline.from_pretrained("embedded", torch_dtype=dtype)
    if name != "embedded":
        pipeline = _random_pipeline(name, device, pipeline.tokenizer)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device, dtype)
    return pipeline


def _random_pipeline(name: str, device: torch.device, tokenizer: Any) -> PnPVideoPipeline:
    """Return a pipeline of Stable Diffusion's sizes, except the vocabulary: the tokenizer's."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = 77
    torch.manual_seed(0)
    with torch.device(device):
        first, *second = [
            kind(_text_config(tokenizer, sizes))
            for kind, sizes in zip(
                (CLIPTextModel, CLIPTextModelWithProjection), _TEXTS[name], strict=False
            )
        ]
        parts = {"unet": UNet2DConditionModel(sample_size=64, **_UNETS[name])}
        parts["vae"] = AutoencoderKL(**_VAE | (_TINY_VAE if name == "tiny" else {}))
    if second:
        parts |= {"text_encoder_2": second[0], "tokenizer_2": tokenizer}
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if name == "sd21" else "epsilon",
    )
    return PnPVideoPipeline(text_encoder=first, tokenizer=tokenizer, scheduler=scheduler, **parts)


def _text_config(tokenizer: Any, sizes: tuple[int, int, int]) -> CLIPTextConfig:
    width, heads, layers = sizes
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
