"""The stages `vae` and `decoder` of the embedded model's training: its autoencoder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tools.train.artwork import Artwork
from tools.train.examples import HELD_OUT, draw, make_pair, scaled
from tools.train.model import new_vae
from tools.train.scenes import SIZE
from tools.train.state import TrainingState, autocast, checkpoints

CROP = 128
CROPS = 4  # of one picture
PICTURES = 4  # in a batch
RESCALED = 0.35  # share of the steps that decode smaller latents to the smaller picture


class Pictures(Dataset[Tensor]):
    """Pictures from number `start` on: (3, SIZE, SIZE) uint8, a pair's source, then its target."""

    def __init__(self, artwork: Artwork, *, start: int, count: int, held_out: bool = False) -> None:
        self.artwork, self.start, self.count = artwork, start, count
        self.names = artwork.names(held_out=held_out)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        number = self.start + index
        return draw(make_pair(number, self.names)[number % 2], self.artwork)


def crops(pictures: Tensor, generator: Generator) -> Tensor:
    """Cut `CROPS` of each picture (N, 3, SIZE, SIZE): (N * CROPS, 3, CROP, CROP) in [-1, 1]."""
    starts = torch.randint(0, SIZE - CROP + 1, (len(pictures), CROPS, 2), generator=generator)
    cut = [
        picture[:, top : top + CROP, left : left + CROP]
        for picture, places in zip(pictures, starts.tolist(), strict=True)
        for top, left in places
    ]
    return scaled(torch.stack(cut))


def reconstruction_loss(error: Tensor) -> Tensor:
    """Return the loss of an error (B, 3, H, W).

    It sums the absolute and squared error, that of 8 x 8 block means (true colours), and that of
    differences between neighbours (sharp edges).
    """
    blocks = functional.avg_pool2d(error, 8)
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 2 * error.square().mean() + 2 * blocks.abs().mean() + 0.5 * edges


def vae_loss(
    vae: AutoencoderTiny, images: Tensor, generator: Generator, *, encode: bool
) -> tuple[Tensor, Tensor]:
    """Return the loss and mean squared error on `images` (B, 3, H, W) in [-1, 1].

    To be easy for a diffusion model, latents are pulled to mean 0 and deviation 1 in each channel,
    are decoded with noise, as a UNet will leave some, and are equivariant to scale: smaller latents
    decode to the smaller picture (EQ-VAE, Kouzelis et al. 2025, section 3).
    """
    with torch.set_grad_enabled(encode):
        latents = vae.encode(images).latents.float()
    rescaled = float(torch.rand((), generator=generator)) < RESCALED
    shown, goal = latents, images
    if rescaled:
        shown, goal = functional.avg_pool2d(latents, 2), functional.avg_pool2d(images, 2)
    level = 0.15 * torch.rand(len(shown), 1, 1, 1, generator=generator)
    noise = torch.randn(shown.shape, generator=generator) * level
    error = vae.decode(shown + noise.to(shown.device)).sample.float() - goal
    loss = reconstruction_loss(error)
    if encode:
        mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        spread = mean.square().mean() + (deviation - 1).square().mean()
        far = (latents.abs() - 2.5).clamp(min=0).square().mean()
        loss = loss + 0.02 * spread + 0.1 * far
    return loss, error.square().mean() if not rescaled else error.new_full((), torch.nan)


def train_vae(
    work: Path, stage: str, artwork: Artwork, *, minutes: float, device: str, workers: int
) -> None:
    """Train the stage `vae`, or only its decoder (stage `decoder`), and print its quality.

    It takes `minutes` in all, the last third with a falling learning rate, and starts from
    `vae.safetensors` in `work`, if that exists.
    """
    encode = stage == "vae"
    final = work / "vae.safetensors"
    torch.manual_seed(0)
    vae = (load_vae(final) if final.exists() else new_vae()).train().to(device)
    vae = vae.to(memory_format=torch.channels_last)
    part = vae if encode else vae.decoder
    state = TrainingState(part, learning_rate=1e-3, warmup=60, decay=0.995)
    for path in checkpoints(work, stage)[-1:]:
        state.load(path)
        print(f"{stage}: resumed from {path.name}", flush=True)
    seconds = 60 * minutes
    squares: list[Tensor] = []
    saved = state.seconds
    unseen = Pictures(artwork, start=state.images, count=HELD_OUT - state.images)
    for pictures in DataLoader(unseen, batch_size=PICTURES, num_workers=workers):
        if state.seconds >= seconds:
            break
        start = time.perf_counter()
        generator = Generator().manual_seed(state.step)
        images = crops(pictures, generator).to(device, memory_format=torch.channels_last)
        with autocast(device):
            loss, squared = vae_loss(vae, images, generator, encode=encode)
        state.update(loss, factor=min(1.0, 3 * (1 - state.seconds / seconds)) + 0.005)
        state.images += PICTURES
        squares.append(squared.detach())
        if state.step % 50 == 0:
            recent = torch.stack(squares[-200:]).nanmean()
            print(
                f"{stage}: step {state.step}, {state.seconds:.0f} s, "
                f"loss {float(loss.detach()):.4f}, PSNR {10 * torch.log10(4 / recent):.2f} dB",
                flush=True,
            )
        state.seconds += time.perf_counter() - start
        if state.seconds - saved > 300:
            saved = state.seconds
            state.save(work, stage)
    state.save(work, stage)
    state.load_average(part)
    vae = vae.to("cpu").eval()
    if encode:
        latents = torch.cat([_encode(vae, p) for p in _some(artwork, 128, held_out=False)])
        vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    save_vae(vae, final)
    for held_out in (False, True):
        things = "held-out things" if held_out else "known things"
        print(f"{stage}: {things}: {measure_vae(vae, artwork, held_out=held_out)}", flush=True)


def _some(artwork: Artwork, count: int, *, held_out: bool) -> Iterator[Tensor]:
    pictures = Pictures(artwork, start=HELD_OUT, count=count, held_out=held_out)
    for batch in DataLoader(pictures, batch_size=16):
        yield scaled(batch)


@torch.inference_mode()
def _encode(vae: AutoencoderTiny, images: Tensor) -> Tensor:
    latents: Tensor = vae.encode(images).latents
    return latents


@torch.inference_mode()
def measure_vae(
    vae: AutoencoderTiny, artwork: Artwork, *, count: int = 128, held_out: bool = False
) -> str:
    """Return the PSNR (dB) of held-out pictures, and their mean colour error in 16 x 16 blocks."""
    ratios, colours = [], []
    for images in _some(artwork, count, held_out=held_out):
        error = (vae.decode(_encode(vae, images)).sample.clamp(-1, 1) - images) / 2
        ratios.append(-10 * error.square().mean((1, 2, 3)).log10())
        colours.append(functional.avg_pool2d(error, 16).abs().mean((1, 2, 3)))
    psnr, colour = (float(torch.cat(values).mean()) for values in (ratios, colours))
    return f"PSNR {psnr:.2f} dB, colour error {100 * colour:.2f} %"


def load_vae(path: Path) -> AutoencoderTiny:
    """Return the trained autoencoder, with its scaling factor."""
    vae = new_vae()
    vae.load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        vae.register_to_config(scaling_factor=float(file.metadata()["scaling_factor"]))
    return vae.eval()


def save_vae(vae: AutoencoderTiny, path: Path) -> None:
    factor = {"scaling_factor": str(vae.config["scaling_factor"])}
    partial = path.with_suffix(".partial")
    tensors = {name: value.contiguous() for name, value in vae.state_dict().items()}
    save_file(tensors, partial, factor)
    partial.rename(path)
