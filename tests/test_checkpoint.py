"""The identification of single files, and the sampling of files that state their noise."""

import shutil
from pathlib import Path

import pytest
import torch
from models import checkpoint_weights, save_checkpoint, save_tiny_sdxl
from safetensors.torch import load_file, save_file

from pnpvideo.errors import InputError
from pnpvideo.loading.checkpoint import read_checkpoint
from pnpvideo.loading.load import load_model
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

pytestmark = pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")

Shapes = dict[str, tuple[int, ...]]
SD = "model.diffusion_model."
SD_UNET: Shapes = {f"{SD}input_blocks.0.0.weight": (320, 4, 0, 0)}
SD_VAE: Shapes = {"first_stage_model.encoder.conv_in.weight": (0,)}
SD_TEXT: Shapes = {
    "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": (0,)
}
FLUX: Shapes = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (0, 64)}
SD3: Shapes = {"joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}
XL_TEXT = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
MOTION = "motion_modules.0.temporal_transformer"


def prefixed(shapes: Shapes) -> Shapes:
    return {SD + name: shape for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        # Other families
        (FLUX | {"guidance_in.in_layer.bias": (0,)}, "as black-forest-labs/FLUX.1-dev"),
        (prefixed(FLUX), "as black-forest-labs/FLUX.1-schnell"),
        (SD3 | {"pos_embed": (1, 36864, 0)}, "as stabilityai/stable-diffusion-3-medium-diffusers"),
        (prefixed(SD3 | {"pos_embed": (1, 147456, 0)}) | {"text_encoders.clip_l.x": (0,)},
         "as stabilityai/stable-diffusion-3.5-medium"),
        (SD3 | {"pos_embed": (1, 4, 0)}, "as stabilityai/stable-diffusion-3-medium-diffusers"),
        ({"joint_blocks.37.x_block.mlp.fc1.weight": (0,)}, "3.5-large"),
        (SD_UNET | SD_VAE | {XL_TEXT.replace("1.model", "0.model"): (0,)},
         "as stabilityai/stable-diffusion-xl-refiner-1.0"),
        (SD_UNET | SD_VAE | {XL_TEXT: (0,), "edm_mean": (1,), "edm_std": (1,)},
         "as playgroundai/playground-v2.5-1024px-aesthetic"),
        ({f"{SD}input_blocks.0.0.weight": (320, 9, 0, 0)} | SD_VAE | SD_TEXT,
         "as stable-diffusion-v1-5/stable-diffusion-inpainting"),
        ({f"{SD}input_blocks.0.0.weight": (320, 8, 0, 0)} | SD_VAE | SD_TEXT,
         "as timbrooks/instruct-pix2pix"),
        ({"model.diffusion_model.head.modulation": (0,), f"{SD}patch_embedding.weight": (1536, 0)},
         "as Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
        ({"patchify_proj.weight": (0,)}, "as diffusers/LTX-Video-0.9.0"),
        (SD_UNET | SD_VAE | {XL_TEXT: (0,), "edm_vpred.sigma_max": (1,)}, "a model of EDM's noise"),
        (SD_UNET | SD_VAE | {f"{SD}input_blocks.1.0.time_stack.in_layers.0.bias": (0,)},
         "a video model, Stable Video Diffusion"),
        (SD_UNET | SD_VAE | SD_TEXT | {"depth_model.model.pretrained.cls_token": (0,)},
         "a depth-to-image model"),
        ({"single_transformer_blocks.0.attn.to_q.weight": (0,)}, "a transformer of another family"),
        ({"blocks.0.attn.qkv.weight": (0,)}, "a transformer of another family"),
        # Parts
        (SD_UNET, "without its autoencoder and text encoder"),
        (SD_UNET | SD_VAE, "without its text encoder"),
        (SD_UNET | SD_TEXT, "without its autoencoder"),
        ({"input_blocks.0.0.weight": (0,)}, "a UNet alone"),
        ({"down_blocks.0.resnets.0.conv1.weight": (0,), "conv_in.weight": (0,)}, "a UNet alone"),
        ({"encoder.down.0.block.0.conv1.weight": (0,)}, "an autoencoder (VAE) alone"),
        ({"encoder.down_blocks.0.resnets.0.conv1.weight": (0,)}, "an autoencoder (VAE) alone"),
        (SD_VAE, "an autoencoder (VAE) alone"),
        ({"encoder.layers.0.weight": (0,)}, "a tiny autoencoder alone"),
        ({"0.weight": (0,), "1.conv.0.weight": (0,)}, "a tiny autoencoder alone"),
        ({"text_model.encoder.layers.0.mlp.fc1.bias": (0,)}, "a text encoder alone"),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (0,)}, "a text encoder alone"),
        ({"transformer.resblocks.0.ln_1.bias": (0,)}, "a text encoder alone"),
        ({"vision_model.encoder.layers.0.mlp.fc1.bias": (0,)}, "an image encoder alone"),
        ({"model.1.sub.0.RDB1.conv1.0.bias": (0,)}, "an upscaler alone"),
        # What adds to a model
        ({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (0,)}, "with --lora"),
        ({"unet.mid_block.attentions.0.proj_in.lora_A.weight": (0,)}, "with --lora"),
        ({"transformer.x_embedder.lora_B.weight": (0,)}, "with --lora"),
        ({"mid_block.attn1.processor.to_q_lora.down.weight": (0,)}, "with --lora"),
        ({"lora_unet_mid_block.hada_w1_a": (0,)}, "with --lora"),
        ({"lycoris_mid_block.lokr_w1": (0,)}, "with --lora"),
        ({"control_model.time_embed.0.weight": (0,)}, "a ControlNet"),
        ({"controlnet_cond_embedding.conv_in.weight": (0,), "conv_in.bias": (0,)}, "a ControlNet"),
        ({"lora_controlnet": (0,), "input_blocks.1.0.emb_layers.1.up": (0,)}, "a ControlNet"),
        ({f"down_blocks.0.{MOTION}.norm.weight": (0,)}, "a motion module of AnimateDiff"),
        ({"image_proj.proj.weight": (0,), "ip_adapter.1.to_k_ip.weight": (0,)}, "an IP-Adapter"),
        ({"body.0.in_conv.weight": (0,)}, "a T2I-Adapter"),
        ({"emb_params": (1, 768)}, "a textual inversion embedding"),
        ({"clip_g": (1, 1280), "clip_l": (1, 768)}, "a textual inversion embedding"),
        # Quantised
        (SD_UNET | {f"{SD}x.weight.quant_state.bitsandbytes__nf4": (0,)}, "a quantised model"),
        (SD_UNET | SD_VAE | SD_TEXT | {"scaled_fp8": (2,)}, "a quantised model"),
        # Neither
        ({"some.weight": (2,)}, "not a known model (it holds some.weight)"),
        ({}, "not a known model (it holds nothing)"),
    ],
)  # fmt: skip
def test_what_is_no_whole_model_is_told(tmp_path: Path, shapes: Shapes, words: str) -> None:
    path = tmp_path / "file.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(InputError) as raised:
        load_model(path)
    told = str(raised.value)
    assert told.startswith(f"{path} is ")
    assert words in told
    wanted = "give a whole Stable Diffusion 1.x, 2.x or XL model"
    beside = ("beside a model", "with --model-config")
    assert told.endswith((wanted, f"{wanted}, unquantised", *beside))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a pointer of Git LFS",
        ),
        ("a.safetensors", b"<!DOCTYPE html><html>", "a web page"),
        ("a.safetensors", b"PK\x03\x04rest of an archive", "a pickle, which can hold code"),
        ("a.safetensors", b"\x80\x02}q\x00.", "a pickle, which can hold code"),
        ("a.gguf", b"GGUF\x03\0\0\0", "a quantised GGUF file"),
        ("a.ckpt", b"PK\x03\x04rest of an archive", "a pickle, which can hold code"),
        ("a.onnx", b"\x08\x07", "not a .safetensors file"),
        ("a.safetensors", b"", "not a safetensors file"),
    ],
)
def test_what_is_no_safetensors_file_is_told(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        load_model(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name} is {words}")


V = {"prediction_type": "v_prediction"}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("marks", "metadata", "noise"),
    [
        ((), {}, {}),
        (("v_pred",), {}, V),
        (("v_pred", "ztsnr"), {}, V | ZERO),
        ((), {"modelspec.prediction_type": "v"}, V),
        ((), {"modelspec.prediction_type": "epsilon"}, {"prediction_type": "epsilon"}),
    ],
)
def test_marks_of_the_noise(
    tiny_model: Path,
    tmp_path: Path,
    marks: tuple[str, ...],
    metadata: dict[str, str],
    noise: dict[str, object],
) -> None:
    path = tmp_path / "model.safetensors"
    shapes = SD_UNET | SD_VAE | SD_TEXT | dict.fromkeys(marks, (0,))
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path, metadata)
    assert read_checkpoint(path).noise == noise


@pytest.mark.parametrize(("spread", "guessed"), [(0.02, "epsilon"), (0.2, "v_prediction")])
def test_sd_2_of_either_prediction(tmp_path: Path, spread: float, guessed: str) -> None:
    block = f"{SD}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    key = f"{SD}input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
    shapes = SD_UNET | SD_VAE | {"cond_stage_model.model.ln_final.bias": (0,), key: (0, 1024)}
    weights = {name: torch.zeros(shape) for name, shape in shapes.items()}
    save_file(weights | {block: spread * torch.randn(320)}, tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path / "model.safetensors").guessed == guessed


@pytest.mark.parametrize("large", [False, True])
def test_a_marked_file_is_loaded_whole_and_sampled_as_it_says(
    tiny_model: Path, tmp_path: Path, large: bool
) -> None:
    folder = tiny_model
    if large:
        # diffusers knows SDXL by the tenth layer of its second text encoder, and each by its width.
        folder = save_tiny_sdxl(tmp_path, num_hidden_layers=10, hidden_size=32)
    whole = load_model(folder).components
    path = save_checkpoint(whole, tmp_path / "model.safetensors", ("v_pred", "ztsnr"))
    components = load_model(path, config=folder).components
    for part in ("unet", "vae", "text_encoder", *["text_encoder_2"] * large):
        for name, value in whole[part].state_dict().items():
            assert torch.equal(components[part].state_dict()[name], value), name
    pipeline = PnPVideoPipeline(**components)
    schedule = pipeline.schedule(PnPOptions(steps=4))
    assert schedule.prediction_type == "v_prediction"
    assert schedule.timesteps == (999, 749, 499, 249)
    assert schedule.levels[0].signal == 0
    frames = pipeline("a", torch.rand(1, 3, 32, 32), num_inference_steps=4, output_type="np").frames
    assert 0 < frames.std() < 1


def test_a_prediction_type_that_is_given_wins(tiny_model: Path, tmp_path: Path) -> None:
    given = load_model(tiny_model, prediction_type="v_prediction").components["scheduler"]
    assert given.config.prediction_type == "v_prediction"
    assert given.config.beta_end == 0.012


@pytest.mark.parametrize(
    ("form", "part", "without", "words"),
    [
        ("file", "unet", "model.diffusion_model.middle_block", "it lacks weights"),
        ("file", "vae", "first_stage_model.decoder.conv_out", "it lacks weights"),
        ("file", "text_encoder", "cond_stage_model.transformer.text_model.final_layer_norm",
         "its text_encoder lacks 2 weights, such as final_layer_norm.weight"),
        ("folder", "unet", "mid_block", "its unet lacks 46 weights, such as mid_block."),
        ("folder", "vae", "decoder.conv_out", "its vae lacks 2 weights, such as decoder.conv_out."),
    ],
)  # fmt: skip
def test_models_that_lack_weights(
    tiny_model: Path, tmp_path: Path, form: str, part: str, without: str, words: str
) -> None:
    model = tmp_path / "model.safetensors"
    options = {"config": tiny_model} if form == "file" else {}
    if form == "folder":
        model = shutil.copytree(tiny_model, tmp_path / "model")
    file = model if form == "file" else model / part / "diffusion_pytorch_model.safetensors"
    weights = (
        load_file(file)
        if form == "folder"
        else checkpoint_weights(load_model(tiny_model).components)
    )
    kept = {k: v.contiguous() for k, v in weights.items() if not k.startswith(without)}
    assert len(kept) < len(weights)
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(InputError) as raised:
        load_model(model, **options)
    assert words in str(raised.value)
    assert str(model) in str(raised.value)
