"""The stages `vae` and `decoder` of the embedded model's training."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn
from torch.nn import functional

from tools.embedded_model import new_vae
from tools.scenes import object_masks
from tools.training_data import HELD_OUT, SIZE, example, load_images, render_examples
from tools.training_state import TrainingState, autocast, checkpoints


def vae_loss(vae: AutoencoderTiny, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and mean squared error on `images` (B, 3, H, W) in [-1, 1].

    The error of 8 x 8 block means keeps colours true. Latents are pulled to mean 0 and deviation 1
    a channel, and decoded with a little noise, as the UNet will leave some.
    """
    latents = vae.encode(images).latents.float()
    output = vae.decode(latents + 0.04 * noise).sample.float()
    error = output - images
    blocks = functional.avg_pool2d(error, 8)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    spread = mean.square().mean() + (deviation - 1).square().mean()
    far = (latents.abs() - 2.5).clamp(min=0).square().mean()
    squared = error.square().mean()
    loss = error.abs().mean() + 2 * squared + 2 * blocks.abs().mean() + 0.02 * spread + 0.1 * far
    return loss, squared


def decoder_loss(vae: AutoencoderTiny, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The mean squared error on `images` (B, 3, H, W) in [-1, 1], as loss and as measure."""
    with torch.no_grad():
        latents = vae.encode(images).latents
    squared = (vae.decode(latents + 0.02 * noise).sample.float() - images).square().mean()
    return squared, squared


def fit_vae(
    work: Path,
    stage: str,
    vae: AutoencoderTiny,
    part: nn.Module,
    loss_of: Callable[[AutoencoderTiny, Tensor, Tensor], tuple[Tensor, Tensor]],
    seconds: float,
) -> None:
    """Train a part of the VAE on crops for `seconds` in all, the last third with a falling rate;
    then print how good it is.
    """
    batch, crop = 16, 64
    images = load_images(work / "images", 5)
    vae.to(memory_format=torch.channels_last)
    state = TrainingState(part, learning_rate=1e-3, warmup=60, decay=0.99)
    for path in checkpoints(work, stage)[-1:]:
        state.load(path)
    squares: list[float] = []
    while state.seconds < seconds:
        start = time.perf_counter()
        generator = Generator().manual_seed(state.step)
        rows = torch.randint(len(images), (batch,), generator=generator)
        top, left = torch.randint(0, SIZE - crop + 1, (2,), generator=generator).tolist()
        cut = images[rows, :, top : top + crop, left : left + crop].float() / 127.5 - 1
        cut = cut.contiguous(memory_format=torch.channels_last)
        noise = torch.randn(batch, 4, crop // 4, crop // 4, generator=generator)
        with autocast():
            loss, squared = loss_of(vae, cut, noise)
        left_over = 1 - state.seconds / seconds
        state.update(loss, factor=min(1.0, 3 * left_over) + 0.005)
        state.images += batch
        state.seconds += time.perf_counter() - start
        squares.append(float(squared.detach()))
        if state.step % 50 == 0:
            recent = torch.tensor(squares[-50:]).mean()
            print(
                f"{stage}: step {state.step}, {state.seconds:.0f} s, "
                f"loss {float(loss.detach()):.4f}, PSNR {10 * torch.log10(4 / recent):.2f} dB",
                flush=True,
            )
        if state.step % 500 == 0:
            state.save(work, stage)
    state.save(work, stage)
    state.load_average(part)
    psnr, colour = measure_vae(vae.eval())
    print(f"{stage}: PSNR {psnr:.2f} dB, colour error {colour:.4f}", flush=True)


def train_vae(work: Path, seconds: float) -> Path:
    """Train the whole VAE and find its scaling factor."""
    final = work / "vae.safetensors"
    if not final.exists():
        torch.manual_seed(0)
        vae = new_vae()
        fit_vae(work, "vae", vae, vae, vae_loss, seconds)
        images = load_images(work / "images", 1)[:256]
        with torch.inference_mode():
            spread = vae.encode(images.float() / 127.5 - 1).latents.std()
        vae.register_to_config(scaling_factor=round(1 / float(spread), 4))
        save_vae(vae, final)
    return final


def tune_decoder(work: Path, seconds: float) -> None:
    """Train the decoder further; the latents, and what was learnt of them, stay valid."""
    vae = load_vae(work / "vae.safetensors").train()
    vae.encoder.requires_grad_(False)
    fit_vae(work, "decoder", vae, vae.decoder, decoder_loss, seconds)
    save_vae(vae, work / "vae.safetensors")


@torch.inference_mode()
def measure_vae(vae: AutoencoderTiny, count: int = 200) -> tuple[float, float]:
    """PSNR (dB) over held-out examples, half of them drawings and half photos, and the mean colour
    error of the objects in the photos (share of full scale).
    """
    drawings, photos = (
        render_examples(HELD_OUT, count // 2, picture).float() / 255 for picture in (0, 1)
    )

    def rebuild(pictures: Tensor) -> Tensor:
        latents = vae.encode(pictures * 2 - 1).latents
        decoded: Tensor = vae.decode(latents).sample
        return (decoded / 2 + 0.5).clamp(0, 1)

    difference = rebuild(photos) - photos
    squared = torch.cat((rebuild(drawings) - drawings, difference)).square().mean((1, 2, 3))
    errors = [
        ((difference[row] * mask).sum((1, 2)) / mask.sum().clamp(min=1)).abs().mean()
        for row in range(len(photos))
        for mask in object_masks(example(HELD_OUT + row)[0][0], SIZE)
    ]
    return float((-10 * squared.log10()).mean()), float(torch.stack(errors).mean())


def load_vae(path: Path) -> AutoencoderTiny:
    """The trained VAE, with its scaling factor."""
    vae = new_vae()
    vae.load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        vae.register_to_config(scaling_factor=float(file.metadata()["scaling_factor"]))
    return vae.eval()


def save_vae(vae: AutoencoderTiny, path: Path) -> None:
    factor = {"scaling_factor": str(vae.config["scaling_factor"])}
    save_file({name: value.contiguous() for name, value in vae.state_dict().items()}, path, factor)
