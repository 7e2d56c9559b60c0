"""Makes tiny random models of Stable Diffusion's kinds, and the forms that they are kept in."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

import pnpvideo

TOKENIZER = Path(pnpvideo.__file__).parent / "embedded" / "tokenizer"
WIDTH = 16


def save_tiny_model(folder: Path) -> Path:
    """A model of SD 1.5's topology with 32 pixels a side, four to a latent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
        pipeline = diffusers.StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            tokenizer=tokenizer,
            unet=tiny_unet(),
            scheduler=sd_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    _save(pipeline, folder)
    return folder


def save_tiny_sdxl(folder: Path, **second: int) -> Path:
    """A model of SDXL's kind: two text encoders, sizes among the conditions.

    second: sizes of the second text encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
        pipeline = diffusers.StableDiffusionXLPipeline(
            vae=_vae(force_upcast=True),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, **second)),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=tiny_unet(
                cross_attention_dim=WIDTH + second.get("hidden_size", WIDTH),
                addition_embed_type="text_time",
                addition_time_embed_dim=4,
                projection_class_embeddings_input_dim=WIDTH + 6 * 4,
            ),
            scheduler=sd_scheduler(),
        )
    _save(pipeline, folder)
    return folder


def checkpoint_weights(model: Any) -> dict[str, Tensor]:
    """Loaded components with the names of the original Stable Diffusion or SDXL code."""
    weights = {
        f"model.diffusion_model.{_unet_name(name, model['unet'].config.layers_per_block)}": value
        for name, value in model["unet"].state_dict().items()
    }
    for name, value in model["vae"].state_dict().items():
        ours = re.search(r"mid_block\.attentions\.0\.to_\w+(\.0)?\.weight", name)
        weights[f"first_stage_model.{_vae_name(name, len(model['vae'].encoder.down_blocks))}"] = (
            value[:, :, None, None] if ours else value
        )
    second = model.get("text_encoder_2")
    place = "cond_stage_model" if second is None else "conditioner.embedders.0"
    for name, value in model["text_encoder"].state_dict().items():
        inner = name.removeprefix("text_model.")
        weights[f"{place}.transformer.text_model.{inner}"] = value
    if second is not None:
        weights |= {
            f"conditioner.embedders.1.model.{name}": value
            for name, value in _open_clip_weights(second.state_dict()).items()
        }
    return weights


def save_checkpoint(model: Any, path: Path, marks: Sequence[str] = (), **metadata: str) -> Path:
    """One file of loaded components. marks: names of further tensors, which are empty."""
    weights = checkpoint_weights(model) | {name: torch.tensor([]) for name in marks}
    save_file({name: value.contiguous() for name, value in weights.items()}, path, metadata)
    return path


def _open_clip_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A text encoder's weights with the names of OpenCLIP's code."""
    weights = {}
    for name, value in state.items():
        inner = re.sub(r"^text_model\.|^embeddings\.", "", name).removeprefix("embeddings.")
        for theirs, original in {
            "encoder.layers": "transformer.resblocks",
            "layer_norm": "ln_",
            "mlp.fc1": "mlp.c_fc",
            "mlp.fc2": "mlp.c_proj",
            "self_attn.": "attn.",
            "final_ln_": "ln_final",
            "position_embedding.weight": "positional_embedding",
        }.items():
            inner = inner.replace(theirs, original)
        if inner == "text_projection.weight":
            inner, value = "text_projection", value.T
        if ".q_proj." in inner:
            others = (state[name.replace("q_proj", part)] for part in ("k_proj", "v_proj"))
            inner, value = inner.replace("q_proj.", "in_proj_"), torch.cat([value, *others])
        if "k_proj" not in inner and "v_proj" not in inner:
            weights[inner] = value
    return weights


def save_lora(weights: dict[str, Tensor], path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    return path


def _vae(**options: Any) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        **options,
    )


def tiny_unet(**options: Any) -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        attention_head_dim=2,
        norm_num_groups=4,
        **{
            "block_out_channels": (8, 16, 16, 16),
            "cross_attention_dim": WIDTH,
            "layers_per_block": 1,
            **options,
        },
    )


def random_controlnet(
    unet: diffusers.UNet2DConditionModel, channels: Sequence[int] = (4, 4, 8, 8)
) -> diffusers.ControlNetModel:
    """Of a UNet's shape, with what is zero before training filled, so that it does something.

    channels: of the layers that see its picture; there are 2 ** (their number - 1) of its pixels
    to a side of a latent.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        controlnet = diffusers.ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=tuple(channels)
        )
        zeros = [controlnet.controlnet_cond_embedding.conv_out, controlnet.controlnet_mid_block]
        for layer in (*zeros, *controlnet.controlnet_down_blocks):
            torch.nn.init.normal_(layer.weight, std=0.2)
            torch.nn.init.normal_(layer.bias, std=0.2)
    return controlnet.to(unet.dtype).eval()


def save_tiny_ip_adapter(unet: Any, folder: Path, *, plus: bool = False) -> Path:
    """A random IP-Adapter for a UNet, with a random image encoder beside it, as published.

    plus: of the kind that sees the encoder's tokens, not what it makes of the whole picture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                projection_dim=WIDTH - 4,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=16,
                patch_size=8,
            )
        )
        wide = unet.config.cross_attention_dim
        shapes = {"proj.weight": (4 * wide, WIDTH - 4), "proj.bias": (4 * wide,)}
        shapes |= {"norm.weight": (wide,), "norm.bias": (wide,)}
        if plus:
            shapes = _resampler_shapes(wide)
        weights = {f"image_proj.{name}": torch.randn(shape) for name, shape in shapes.items()}
        layers = [x for x in unet.modules() if getattr(x, "is_cross_attention", False)]
        for number, layer in enumerate(layers):
            for name in ("to_k_ip", "to_v_ip"):
                shape = layer.to_k.weight.shape
                weights[f"ip_adapter.{2 * number + 1}.{name}.weight"] = torch.randn(shape)
    encoder.save_pretrained(folder / "image_encoder")
    save_file(weights, folder / "adapter.safetensors")
    return folder / "adapter.safetensors"


def _resampler_shapes(wide: int, inner: int = 64) -> dict[str, tuple[int, ...]]:
    """Of the weights between the tokens of a picture and those that the UNet sees."""
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, 3, inner),
        "proj_in.weight": (inner, WIDTH),
        "proj_in.bias": (inner,),
        "proj_out.weight": (wide, inner),
        "proj_out.bias": (wide,),
        "norm_out.weight": (wide,),
        "norm_out.bias": (wide,),
    }
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"layers.{layer}.{norm}.{kind}": (inner,) for kind in ("weight", "bias")}
        shapes |= {
            f"layers.{layer}.0.to_q.weight": (inner, inner),
            f"layers.{layer}.0.to_kv.weight": (2 * inner, inner),
            f"layers.{layer}.0.to_out.weight": (inner, inner),
            f"layers.{layer}.1.1.weight": (4 * inner, inner),
            f"layers.{layer}.1.3.weight": (inner, 4 * inner),
        }
    return shapes


def controlnet_weights(controlnet: diffusers.ControlNetModel) -> dict[str, Tensor]:
    """Its weights with the names of the original ControlNet code."""
    weights = {}
    for name, value in controlnet.state_dict().items():
        parts = name.split(".")
        if name.startswith("controlnet_cond_embedding."):
            places = {"conv_in": 0, "conv_out": 14}
            place = places[parts[1]] if parts[1] in places else 2 * int(parts[2]) + 2
            inner = f"input_hint_block.{place}.{parts[-1]}"
        elif name.startswith("controlnet_down_blocks."):
            inner = f"zero_convs.{parts[1]}.0.{parts[2]}"
        elif name.startswith("controlnet_mid_block."):
            inner = f"middle_block_out.0.{parts[1]}"
        else:
            inner = _unet_name(name, controlnet.config.layers_per_block)
        weights[inner] = value.contiguous()
    return weights


def text_config(
    tokenizer: CLIPTokenizer, num_hidden_layers: int = 2, hidden_size: int = WIDTH
) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def sd_scheduler(prediction: str = "epsilon") -> diffusers.DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )


def _save(pipeline: Any, folder: Path) -> None:
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder, safe_serialization=True)


def _unet_name(name: str, layers: int = 2) -> str:
    """The original code counts blocks through all levels; a level has `layers` and one to scale."""
    whole = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }
    for theirs, original in whole.items():
        if name.startswith(theirs + "."):
            return original + name.removeprefix(theirs)
    parts = name.split(".")
    if parts[0] == "mid_block":
        place = {"resnets": 2 * int(parts[2]), "attentions": 1}[parts[1]]
        start, rest = f"middle_block.{place}", parts[3:]
    else:
        level, kind, number, rest = int(parts[1]), parts[2], int(parts[3]), parts[4:]
        inside = {"resnets": 0, "attentions": 1}
        if kind == "downsamplers":
            start, rest = f"input_blocks.{(layers + 1) * (level + 1)}.0.op", rest[1:]
        elif kind == "upsamplers":
            # Behind the attention, where the level has one.
            start = f"output_blocks.{(layers + 1) * level + layers}.{2 if level else 1}"
        elif parts[0] == "down_blocks":
            start = f"input_blocks.{(layers + 1) * level + number + 1}.{inside[kind]}"
        else:
            start = f"output_blocks.{(layers + 1) * level + number}.{inside[kind]}"
    inner = ".".join(rest)
    for theirs, original in {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }.items():
        if "resnets" in parts and inner.startswith(theirs + "."):
            inner = original + inner.removeprefix(theirs)
    return f"{start}.{inner}"


def _vae_name(name: str, levels: int) -> str:
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
    name = re.sub(
        r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name
    )
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for theirs, original in {
        "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
        "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
        "mid_block.attentions.0.to_": "mid.attn_1.",
        "conv_shortcut": "nin_shortcut",
        "conv_norm_out": "norm_out",
    }.items():
        name = name.replace(theirs, original)
    return name


def model_with_words(model: Path, folder: Path) -> Path:
    """A copy of a model that lists what it knows: stones and a horse, with a picture of each."""
    shutil.copytree(model, folder)
    Image.new("RGB", (16, 8), "grey").save(folder / "words.png")
    words = {
        "draws": "draws stones",
        "otherwise": "for more, use another model",
        "makes_sources": True,
        "words": {"things": [["stone", "cobblestone"], ["horse"]]},
        "near": {"zebra": ["horse"]},
        "sheet": {"file": "words.png", "side": 8, "columns": 2},
    }
    (folder / "words.json").write_text(json.dumps(words))
    return folder
