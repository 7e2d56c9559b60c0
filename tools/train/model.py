"""The parts of the embedded model: their configurations, tokenizer and folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_LENGTH = 40  # tokens of a prompt
TEXT_WIDTH = 128
LATENT_CHANNELS = 8
LATENT_SIZE = 32


def new_vae() -> AutoencoderTiny:
    """Return an autoencoder of factor 8: 256 px to LATENT_CHANNELS x 32 x 32.

    Most of the work is done at a quarter and half of the full size; the last step is linear.
    """
    width = (48, 48, 48, 48)
    vae = AutoencoderTiny(
        encoder_block_out_channels=width,
        decoder_block_out_channels=width,
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(3, 3, 2, 0),
        latent_channels=LATENT_CHANNELS,
    )
    lead_colours_through(vae)
    return vae


@torch.no_grad()
def lead_colours_through(vae: AutoencoderTiny) -> None:
    """Set the first three channels of all layers to start as the picture's colours.

    They are averaged on the way to the latents and smoothly enlarged on the way back; training adds
    the rest. From random weights, training would spend a long time with two dimensions of colour,
    in which purple is blue.
    """
    average, enlarge = torch.zeros(3, 3), torch.tensor([1.0, 2.0, 1.0]) / 4
    average[1:, 1:] = 0.25
    spread = 3.0  # scales colours to the latents' standard deviation
    keep = torch.zeros(3, 3)
    keep[1, 1] = 1

    def lead(layer: nn.Conv2d, kernel: torch.Tensor, bias: float = 0.0) -> None:
        layer.weight[:3] = 0
        for channel in range(3):
            layer.weight[channel, channel] = kernel
        if layer.bias is not None:
            layer.bias[:3] = bias

    for part in (vae.encoder, vae.decoder):
        for block in (layer for layer in part.layers if hasattr(layer, "fuse")):
            lead(block.conv[-1], torch.zeros(3, 3))
    encoder = [layer for layer in vae.encoder.layers if isinstance(layer, nn.Conv2d)]
    decoder = [layer for layer in vae.decoder.layers if isinstance(layer, nn.Conv2d)]
    lead(encoder[0], keep)
    for layer in encoder[1:-1]:
        lead(layer, average)
    lead(encoder[-1], spread * keep, bias=-spread / 2)
    lead(decoder[0], keep / spread, bias=0.5)
    for layer in decoder[1:-1]:
        lead(layer, torch.outer(enlarge, enlarge))
    for value in decoder[-1].parameters():
        value.mul_(0.1)
    for channel in range(3):
        decoder[-1].weight[channel, channel] = keep


def new_unet() -> UNet2DConditionModel:
    """Return a UNet with four levels as in Stable Diffusion 1.5, without attention at full size.

    There it would take two fifths of a training step, and the method does not need it. So features
    are injected before the last level, and two wide blocks remain to draw the new appearance. The
    pooled text is added to the time embedding, as in SDXL: named colours are learnt sooner.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=(1, 2, 1, 1),
        block_out_channels=(64, 128, 160, 192),
        time_embedding_dim=512,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        # Despite the name, diffusers takes this as the number of heads.
        attention_head_dim=(2, 4, 5, 6),
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_scheduler() -> DDIMScheduler:
    """Return a scheduler with more noise at its end than Stable Diffusion's.

    alpha_bar is 0.0003, not 0.005, with which an object's average colour would show through the
    noise of 32 x 32 latents, so that its name would not be needed. With v prediction, brightness
    and colours are right sooner.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="leading",
    )


def make_tokenizer(folder: Path, texts: Iterable[str]) -> None:
    """Write a byte-level BPE tokenizer in CLIP's file format.

    Every word of `texts` becomes one token, and bytes cover all other text.
    """
    end = "</w>"
    bpe = Tokenizer(models.BPE(end_of_word_suffix=end))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4096, initial_alphabet=alphabet, end_of_word_suffix=end, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    merges = [
        pair if isinstance(pair, str) else " ".join(pair)
        for pair in json.loads(bpe.to_str())["model"]["merges"]
    ]
    tokens = alphabet + [letter + end for letter in alphabet]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    settings = {
        **special,
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TEXT_LENGTH,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


class Denoiser(nn.Module):
    """The UNet and its text encoder, trained together."""

    def __init__(self, tokenizer: CLIPTokenizer):
        super().__init__()
        self.unet = new_unet()
        self.text_encoder = new_text_encoder(tokenizer)

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the weights of linear layers and convolutions that neither read nor write
        latents, timesteps or tokens.
        """
        outer = ("embedding", "conv_in", "conv_out")
        return [
            value
            for name, value in self.named_parameters()
            if value.ndim >= 2 and not any(part in name for part in outer)
        ]

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Predict v, shaped as the noisy latents, from timesteps (B,) and token ids (B, L)."""
        words = self.text_encoder(tokens).last_hidden_state
        predicted: torch.Tensor = self.unet(noisy, timesteps, words).sample
        return predicted


def assemble(
    vae: AutoencoderTiny, denoiser: Denoiser, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export(pipeline: StableDiffusionPipeline, tokenizer_files: Path, folder: Path) -> None:
    """Write the pipeline in half precision, then swap it into `folder` part by part.

    `pipeline` is left in half precision. Other files of the folder (the model card) stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the folder, so that renaming does not copy.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as name:
        fresh, old = Path(name, "new"), Path(name, "old")
        pipeline.to(torch.float16).save_pretrained(fresh, safe_serialization=True)
        # transformers loads in the dtype of the configuration, diffusers in float32: they must
        # agree, or the pipeline mixes dtypes.
        config = fresh / "text_encoder" / "config.json"
        settings = {**json.loads(config.read_text()), "dtype": "float32"}
        config.write_text(json.dumps(settings, indent=2))
        for path in tokenizer_files.iterdir():
            shutil.copy(path, fresh / "tokenizer")
        # safetensors makes files that only the owner can read, but everyone must read the package.
        for path in fresh.rglob("*.safetensors"):
            path.chmod(0o644)
        old.mkdir()
        for part in fresh.iterdir():
            if (folder / part.name).exists():
                (folder / part.name).rename(old / part.name)
            part.rename(folder / part.name)
