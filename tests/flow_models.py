"""Makes tiny random models of flow-matching transformers: the real classes, in diffusers' folders,
with tokenizers made here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from models import TOKENIZER, WIDTH, text_config
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

TEXT = 32
"""The channels of a text."""
FACTOR = 4
"""The pixels along a side that make a latent; two latents make a token."""


def save_tiny_sd3(folder: Path, **blocks: str) -> Path:
    """A model of SD 3.5 Medium's kind: some blocks with a second attention, queries normed.

    blocks: that its pnp.json names, such as transformer_blocks.0="kv".
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        clip = CLIPTokenizer.from_pretrained(TOKENIZER)
        pipeline = diffusers.StableDiffusion3Pipeline(
            transformer=filled(
                diffusers.SD3Transformer2DModel(
                    sample_size=8,
                    patch_size=2,
                    in_channels=4,
                    out_channels=4,
                    num_layers=3,
                    attention_head_dim=8,
                    num_attention_heads=2,
                    joint_attention_dim=TEXT,
                    caption_projection_dim=16,
                    pooled_projection_dim=2 * WIDTH,
                    pos_embed_max_size=12,
                    dual_attention_layers=(0, 1),
                    qk_norm="rms_norm",
                )
            ),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=image_vae(),
            text_encoder=CLIPTextModelWithProjection(text_config(clip)),
            tokenizer=clip,
            text_encoder_2=CLIPTextModelWithProjection(text_config(clip)),
            tokenizer_2=clip,
            text_encoder_3=t5_encoder(),
            tokenizer_3=t5_tokenizer(),
        )
    return save(pipeline, folder, blocks)


def save_tiny_flux(folder: Path, *, distilled: bool = False, **blocks: str) -> Path:
    """A model of FLUX.1 dev's kind, which takes the guidance scale; distilled: of schnell's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        clip = CLIPTokenizer.from_pretrained(TOKENIZER)
        pipeline = diffusers.FluxPipeline(
            transformer=filled(
                diffusers.FluxTransformer2DModel(
                    patch_size=1,
                    in_channels=16,
                    num_layers=2,
                    num_single_layers=2,
                    attention_head_dim=8,
                    num_attention_heads=2,
                    joint_attention_dim=TEXT,
                    pooled_projection_dim=WIDTH,
                    guidance_embeds=not distilled,
                    axes_dims_rope=(2, 2, 4),
                )
            ),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
                shift=1.0 if distilled else 3.0, use_dynamic_shifting=not distilled
            ),
            vae=image_vae(),
            text_encoder=CLIPTextModel(text_config(clip)),
            tokenizer=clip,
            text_encoder_2=t5_encoder(),
            tokenizer_2=t5_tokenizer(),
        )
    return save(pipeline, folder, blocks)


def filled(network: Any) -> Any:
    """The same network, with what is zero before training filled, so that it does something."""
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.5 / weight.shape[-1] ** 0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
        else:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return network.eval()


def image_vae(channels: int = 4) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def t5_encoder() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=128,
            d_model=TEXT,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    ).eval()


def t5_tokenizer() -> T5TokenizerFast:
    """A tokenizer by characters, with T5's marks."""
    letters = "\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-'"
    pieces = ["<pad>", "</s>", "<unk>", *letters]
    return T5TokenizerFast(vocab=[(piece, -float(n)) for n, piece in enumerate(pieces)])


def save(pipeline: Any, folder: Path, blocks: Mapping[str, str]) -> Path:
    """Save a pipeline with few steps and, if there are any, a table of blocks in its pnp.json."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipeline.save_pretrained(folder)
    content: dict[str, Any] = {"options": {"steps": 4, "tau_a": 0.5}}
    if blocks:
        content["blocks"] = dict(blocks)
    (folder / "pnp.json").write_text(json.dumps(content))
    return folder
