"""Makes tiny random models of flow-matching transformers: the real classes, in diffusers' folders,
with tokenizers made here.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from models import TOKENIZER, WIDTH, text_config
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from pnpvideo.models.flow.model import FlowModel
from pnpvideo.pipelines.flow import PnPFlowPipeline

TEXT = 32
"""The channels of a text."""
FACTOR = 4
"""The pixels along a side that make a latent; two latents make a token."""

_T5: dict[str, Any] = {
    "vocab_size": 128,
    "d_model": TEXT,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
}


def saved_when_asked(
    kinds: Mapping[str, Callable[[Path], Path]], place: Path
) -> Callable[[str], Path]:
    """Return a function that returns the folder of a kind, made when it is first asked for."""

    @cache
    def saved(name: str) -> Path:
        return kinds[name](place / name)

    return saved


def in_float64_when_asked(folder_of: Callable[[str], Path]) -> Callable[[str], FlowModel]:
    """Return a function that loads the model of a kind in float64 when it is first asked for."""

    @cache
    def loaded(name: str) -> FlowModel:
        model = PnPFlowPipeline.from_pretrained(folder_of(name), dtype=torch.float64).model
        for expert in model.experts.present:
            torch.nn.Module.double(expert)  # Loading keeps some parts in float32.
        return model

    return loaded


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
            transformer=tiny_flux(guidance_embeds=not distilled),
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


def save_tiny_qwen(folder: Path, **blocks: str) -> Path:
    """A model of Qwen-Image's kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        encoder = Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config={
                    **_small_text(2),
                    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
                },
                vision_config={
                    "depth": 1,
                    "hidden_size": 8,
                    "intermediate_size": 8,
                    "num_heads": 2,
                    "out_hidden_size": WIDTH,
                },
            )
        )
        pipeline = diffusers.QwenImagePipeline(
            transformer=filled(
                diffusers.QwenImageTransformer2DModel(
                    patch_size=2,
                    in_channels=16,
                    out_channels=4,
                    num_layers=2,
                    attention_head_dim=8,
                    num_attention_heads=2,
                    joint_attention_dim=WIDTH,
                    axes_dims_rope=(2, 2, 4),
                )
            ),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True,
                max_shift=0.9,
                max_image_seq_len=8192,
                shift_terminal=0.02,
                shift=1.0,
            ),
            vae=diffusers.AutoencoderKLQwenImage(
                base_dim=8,
                z_dim=4,
                dim_mult=[1, 1, 1],
                num_res_blocks=1,
                temperal_downsample=[False, True],
                latents_mean=[0.1, -0.2, 0.3, 0.0],
                latents_std=[1.5, 0.8, 1.1, 2.0],
            ),
            text_encoder=encoder,
            tokenizer=byte_tokenizer(),
        )
    return save(pipeline, folder, blocks)


def save_tiny_z_image(folder: Path, **blocks: str) -> Path:
    """A model of Z-Image's kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        pipeline = diffusers.ZImagePipeline(
            transformer=filled(
                diffusers.ZImageTransformer2DModel(
                    in_channels=4,
                    dim=16,
                    n_layers=2,
                    n_refiner_layers=1,
                    n_heads=2,
                    n_kv_heads=2,
                    cap_feat_dim=WIDTH,
                    axes_dims=[2, 2, 4],
                    axes_lens=[1024, 32, 32],
                )
            ),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=image_vae(),
            text_encoder=Qwen3Model(Qwen3Config(**_small_text(3))),
            tokenizer=byte_tokenizer(),
        )
    return save(pipeline, folder, blocks)


def save_tiny_klein(folder: Path, *, distilled: bool = False, **blocks: str) -> Path:
    """A model of FLUX.2 klein's kind; distilled: to few steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        pipeline = diffusers.Flux2KleinPipeline(
            transformer=tiny_flux_2(guidance_embeds=False),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            vae=flux_2_vae(),
            # The outputs of its layers 9, 18 and 27 are read.
            text_encoder=Qwen3ForCausalLM(Qwen3Config(**_small_text(27))),
            tokenizer=byte_tokenizer(),
            is_distilled=distilled,
        )
    return save(pipeline, folder, blocks)


def save_tiny_flux_2(folder: Path, **blocks: str) -> Path:
    """A model of FLUX.2 dev's kind, which takes the guidance scale."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        # The outputs of its layers 10, 20 and 30 are read.
        encoder = Mistral3Config(
            text_config={"model_type": "mistral", **_small_text(30)},
            vision_config={
                "model_type": "pixtral",
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 16,
                "patch_size": 8,
            },
        )
        # In place of Pixtral's processor, which needs torchvision.
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = (
            "{% for m in messages if m.role == 'user' %}{{ m.content[0].text }}{% endfor %}"
        )
        pipeline = diffusers.Flux2Pipeline(
            transformer=tiny_flux_2(guidance_embeds=True),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            vae=flux_2_vae(),
            text_encoder=Mistral3ForConditionalGeneration(encoder),
            tokenizer=tokenizer,
        )
    return save(pipeline, folder, blocks)


def save_tiny_wan(folder: Path, **blocks: str) -> Path:
    """A model of videos of Wan 2.1's kind."""
    return _save_wan(folder, blocks, 10)


def save_tiny_wan_a14b(folder: Path, **blocks: str) -> Path:
    """Of Wan 2.2 A14B's kind: two transformers, for high and for low noise."""
    return _save_wan(folder, blocks, 11, experts=2)


def save_tiny_wan_5b(folder: Path, **blocks: str) -> Path:
    """Of Wan 2.2 TI2V-5B's kind: a timestep for each token, and another autoencoder."""
    return _save_wan(folder, blocks, 12, is_large=True)


def _save_wan(
    folder: Path, blocks: Mapping[str, str], seed: int, *, experts: int = 1, is_large: bool = False
) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers = [tiny_wan() for _ in range(experts)]
        pipeline = diffusers.WanPipeline(
            transformer=transformers[0],
            transformer_2=transformers[1] if experts == 2 else None,
            boundary_ratio=0.875 if experts == 2 else None,
            expand_timesteps=is_large,
            scheduler=diffusers.UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
            vae=wan_vae(is_large=is_large),
            text_encoder=umt5_encoder(),
            tokenizer=t5_tokenizer(),
        )
    return save(pipeline, folder, blocks)


def tiny_wan(**changes: Any) -> diffusers.WanTransformer3DModel:
    network: diffusers.WanTransformer3DModel = filled(
        diffusers.WanTransformer3DModel(
            **{
                "num_attention_heads": 2,
                "attention_head_dim": 12,
                "in_channels": 4,
                "out_channels": 4,
                "text_dim": TEXT,
                "freq_dim": 16,
                "ffn_dim": 24,
                "num_layers": 2,
                "rope_max_seq_len": 32,
                **changes,
            }
        )
    )
    return network


def tiny_flux(**changes: Any) -> diffusers.FluxTransformer2DModel:
    network: diffusers.FluxTransformer2DModel = filled(
        diffusers.FluxTransformer2DModel(
            **{
                "patch_size": 1,
                "in_channels": 16,
                "num_layers": 2,
                "num_single_layers": 2,
                "attention_head_dim": 8,
                "num_attention_heads": 2,
                "joint_attention_dim": TEXT,
                "pooled_projection_dim": WIDTH,
                "guidance_embeds": True,
                "axes_dims_rope": (2, 2, 4),
                **changes,
            }
        )
    )
    return network


def tiny_flux_2(*, guidance_embeds: bool) -> diffusers.Flux2Transformer2DModel:
    network: diffusers.Flux2Transformer2DModel = filled(
        diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=3 * WIDTH,
            timestep_guidance_channels=16,
            axes_dims_rope=(2, 2, 2, 2),
            guidance_embeds=guidance_embeds,
        )
    )
    return network


def flux_2_vae() -> diffusers.AutoencoderKLFlux2:
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    torch.nn.init.normal_(vae.bn.running_mean, std=0.3)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    return vae


def _small_text(layers: int) -> dict[str, Any]:
    """The configuration of a text encoder with so many layers."""
    return {
        "vocab_size": 264,
        "hidden_size": WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 2048,
    }


def byte_tokenizer() -> Qwen2TokenizerFast:
    """A tokenizer by bytes, with Qwen's marks and a template for chats."""
    letters = sorted(ByteLevel.alphabet())
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2TokenizerFast(
        vocab={token: number for number, token in enumerate([*letters, *marks])}, merges=[]
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def wan_vae(*, is_large: bool = False) -> diffusers.AutoencoderKLWan:
    """Wan's autoencoder of videos; is_large: of the kind of Wan 2.2's TI2V-5B.

    Half of the usual factor: 4 pixels along a side make a latent, or 8.
    """
    kind: dict[str, Any] = {}
    if is_large:
        kind = {
            "is_residual": True,
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
            "scale_factor_spatial": 8,
        }
    return diffusers.AutoencoderKLWan(
        **{
            "base_dim": 8,
            "z_dim": 4,
            "dim_mult": [1, 1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [True, True],
            "latents_mean": [0.1, -0.2, 0.3, 0.0],
            "latents_std": [1.5, 0.8, 1.1, 2.0],
            "scale_factor_spatial": 4,
            **kind,
        }
    )


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
    return T5EncoderModel(T5Config(**_T5)).eval()


def umt5_encoder() -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(**_T5)).eval()


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
