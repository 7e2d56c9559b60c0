"""Train the embedded model from nothing and export it in the diffusers folder format.

    python -m tools.train_embedded --work-dir WORK --export pnpvideo/embedded

Stages, each resumed from what lies in the work folder: `images` (render the world), `vae`, its
`decoder` alone, `latents` (encode images, tokenize captions), `unet` (with the text encoder and
heads that supervise both, see `supervise_layout`) and `export`. Batches, noise and crops are drawn
from the step's number, so a resumed run goes on as if it had never stopped. The `unet` stage splits
each batch over `--processes` processes of one thread each, which use a CPU better than the threads
of one.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, distributed, multiprocessing
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from transformers import CLIPTextModel, CLIPTokenizer

from tools.embedded_model import (
    TEXT_LENGTH,
    Denoiser,
    assemble,
    export,
    make_tokenizer,
    new_scheduler,
)
from tools.supervise_layout import SupervisedDenoiser, draw_truth
from tools.train_vae import load_vae, save_vae, train_vae, tune_decoder
from tools.training_data import PICTURES, SHARD, WORDINGS, captions, example, make_images
from tools.training_state import TrainingState, autocast, checkpoints

LATENT_SIZE = 32
PAIRS = {(0, 1): 0.50, (0, 2): 0.20, (1, 2): 0.25, (1, 0): 0.05}
"""Weights of the pairs of an example's pictures that are source and target in training."""
BATCH = 16
LEARNING_RATE = 6e-4
AVERAGE_DECAY = 0.999
NOISY = 600  # half of a batch has timesteps from here on
UNCAPTIONED = 0.12  # share of captions left out, for classifier-free guidance
UNCAPTIONED_SOURCE = 0.5  # where features are injected; in sampling the source has no prompt
SUPERVISION = 0.03  # weight of the layout heads' loss beside the v-prediction loss
INJECTED = 0.65  # share of the pairs whose target gets the source's features
STRAYED = 0.7  # largest share of the source or of any picture in the noisy target of such a pair
PROMPTS = (
    "a photo of a red star on sand",
    "a photo of a blue metal heart on grass at sunset",
    "a photo of a yellow plastic ring on a wooden floor",
    "a photo of a green stone moon on snow",
    "a photo of a pink flower in water at night",
    "a photo of a wooden cross on bricks",
    "a photo of a purple leaf and a white ball on gravel",
    "a photo of an orange drop on sand at sunset",
    "a cartoon of a red star on grass",
    "a cartoon of a blue ball on sand at night",
    "a cartoon of a green hexagon and a pink heart",
    "a photo of a turquoise square in the snow",
    "a sketch of a star",
    "a sketch of a heart and a moon",
    "a rough drawing of a triangle",
    "a pencil sketch of a flower",
    "a photo",
    "a black triangle on a lawn",
)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids (N, TEXT_LENGTH)."""
    ids: Tensor = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=TEXT_LENGTH,
        return_tensors="pt",
    ).input_ids
    return ids


@torch.inference_mode()
def make_latents(work: Path, vae: AutoencoderTiny, tokenizer: CLIPTokenizer, count: int) -> None:
    """Encode the images and tokenize their captions, shard by shard; shards that exist stay."""
    vae.to(memory_format=torch.channels_last)
    for path in sorted((work / "images").glob("images-*.safetensors"))[: -(-count // SHARD)]:
        target = work / path.name.replace("images", "latents")
        if target.exists():
            continue
        first = int(path.stem.split("-")[1]) * SHARD
        parts = []
        for images in load_file(path)["images"].flatten(0, 1).split(32):
            with autocast():
                latents = vae.encode(
                    (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
                ).latents
            parts.append((latents.float() * vae.config["scaling_factor"]).half().contiguous())
        texts = [text for row in range(SHARD) for text in captions(first + row)]
        tokens = tokenize(tokenizer, texts).view(SHARD, PICTURES, WORDINGS, TEXT_LENGTH).short()
        partial = target.with_suffix(".partial")
        latents = torch.cat(parts)
        latents = latents.view(SHARD, PICTURES, *latents.shape[1:])
        save_file({"latents": latents, "tokens": tokens}, partial)
        partial.rename(target)
        print(f"latents: {first + SHARD}", flush=True)


class DenoiserTraining:
    """The `unet` stage in one of the processes of the group: train, show samples, export.

    Every process draws the whole batch and takes its share of the rows, so the number of processes
    changes nothing but rounding.
    """

    def __init__(self, work: Path, init_from: Path | None):
        self.work = work
        self.vae = load_vae(work / "vae.safetensors")
        self.tokenizer = tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
        self.first = distributed.get_rank() == 0
        self.share = slice(distributed.get_rank(), None, distributed.get_world_size())
        shards = [load_file(path) for path in sorted(work.glob("latents-*.safetensors"))]
        self.latents = torch.cat([shard["latents"] for shard in shards])
        self.tokens = torch.cat([shard["tokens"] for shard in shards])
        self.nothing = tokenize(tokenizer, [""])[0]
        self.alphas = new_scheduler().alphas_cumprod
        torch.manual_seed(0)
        denoiser = Denoiser(tokenizer)
        if init_from is not None:
            denoiser.unet.load_state_dict(
                UNet2DConditionModel.from_pretrained(init_from, subfolder="unet").state_dict()
            )
            denoiser.text_encoder.load_state_dict(
                CLIPTextModel.from_pretrained(init_from, subfolder="text_encoder").state_dict()
            )
        self.state = TrainingState(
            SupervisedDenoiser(denoiser),
            learning_rate=LEARNING_RATE,
            warmup=200,
            decay=AVERAGE_DECAY,
        )
        for path in checkpoints(work, "unet")[-1:]:
            self.state.load(path)
            print(f"unet: resumed from {path.name}", flush=True)
        self.network = DistributedDataParallel(self.state.model)

    def clock(self) -> float:
        """The first process's time in seconds, so that all do the same number of steps."""
        now = torch.tensor(time.perf_counter(), dtype=torch.float64)
        distributed.broadcast(now, 0)
        return float(now)

    def losses(self) -> tuple[Tensor, Tensor]:
        """v-prediction loss (Salimans and Ho 2022) and the layout heads' loss on this process's
        share of the current step's batch of pairs, a source and a target.
        """
        draw = Generator().manual_seed(self.state.step)
        pairs = BATCH // 2
        rows = torch.randint(len(self.latents), (pairs,), generator=draw)
        weights = torch.tensor(list(PAIRS.values()))
        kinds = torch.multinomial(weights, pairs, replacement=True, generator=draw)
        pictures = torch.tensor(list(PAIRS))[kinds]
        wording = torch.randint(WORDINGS, (pairs, 2), generator=draw)
        clean = self.latents[rows[:, None], pictures].float()
        tokens = self.tokens[rows[:, None], pictures, wording].long()
        # Attention is injected for a part of the steps in which features are.
        injected = torch.rand(pairs, 1, generator=draw) < torch.tensor([INJECTED, 0.75 * INJECTED])
        uncaptioned = torch.full((pairs, 2), UNCAPTIONED)
        uncaptioned[injected[:, 0], 0] = UNCAPTIONED_SOURCE
        tokens[torch.rand(pairs, 2, generator=draw) < uncaptioned] = self.nothing
        timesteps = torch.randint(1000, (pairs, 1), generator=draw)
        # Where the noise is strong the text tells most.
        timesteps[::2] = torch.randint(NOISY, 1000, timesteps[::2].shape, generator=draw)
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=draw)
        fresh = torch.rand(pairs, 1, 1, 1, generator=draw)
        noise[:, 1] = (1 - fresh).sqrt() * noise[:, 0] + fresh.sqrt() * noise[:, 1]
        # What sampling has drawn so far may be wrong, and the source's features are to mend it; or
        # it still looks like the source, whose inverted noise it starts from.
        wrong = STRAYED * torch.rand(pairs, 1, 1, 1, generator=draw)
        wrong = wrong * (injected[:, 0].view(-1, 1, 1, 1) & (alpha[:, 0] < 0.5))
        stays = torch.rand(pairs, 1, 1, 1, generator=draw) < 0.5
        shown = clean.clone()
        stray = torch.where(stays, clean[:, 0], clean[:, 1].roll(1, 0))
        shown[:, 1] += wrong * (stray - clean[:, 1])
        noisy = alpha.sqrt() * shown + (1 - alpha).sqrt() * noise
        target = (alpha.sqrt() * noisy - clean) / (1 - alpha).sqrt()
        mine = self.share
        truth = draw_truth(
            [
                example(row)[picture]
                for row, pair in zip(rows[mine].tolist(), pictures[mine].tolist(), strict=True)
                for picture in pair
            ],
            LATENT_SIZE,
        )
        noisy, target, tokens = (x[mine].flatten(0, 1) for x in (noisy, target, tokens))
        with autocast():
            predicted, layout = self.network(
                noisy,
                timesteps[mine].repeat(1, 2).flatten(),
                tokens,
                injected[mine],
                *truth,
            )
        return functional.mse_loss(predicted.float(), target), layout

    def run(self, seconds: float, factor: Callable[[float], float]) -> None:
        """Train for `seconds`; `factor` of the elapsed share scales the learning rate."""
        start = last = self.clock()
        self.state.model.train()
        losses: list[Tensor] = []
        while (elapsed := self.clock() - start) < seconds:
            loss, layout = self.losses()
            total = loss + SUPERVISION * layout
            self.state.update(total, factor=factor(elapsed / seconds))
            self.state.images += BATCH
            losses.append(torch.stack((loss, layout)).detach())
            if len(losses) == 100:
                now = self.clock()
                self.state.seconds += now - last
                if self.first:
                    means = torch.stack(losses).mean(0).tolist()
                    print(
                        f"unet: step {self.state.step}, images {self.state.images}, "
                        f"loss {means[0]:.4f}, layout {means[1]:.3f}, "
                        f"{100 * BATCH / (now - last):.1f} images/s",
                        flush=True,
                    )
                losses, last = [], now

    def save(self) -> None:
        if self.first:
            self.state.save(self.work, "unet")

    def publish(self, folder: Path | None) -> None:
        """Draw the sample grid from the averaged weights, and export them."""
        if not self.first:
            return
        averaged = SupervisedDenoiser(Denoiser(self.tokenizer))
        self.state.load_average(averaged)
        pipeline = assemble(copy.deepcopy(self.vae), averaged.denoiser.eval(), self.tokenizer)
        with autocast():
            images = pipeline(
                list(PROMPTS),
                num_inference_steps=25,
                guidance_scale=4.0,
                generator=Generator().manual_seed(0),
                output_type="pt",
            ).images
        columns = [torch.cat(list(row), 2) for row in images.float().cpu().split(len(PROMPTS) // 3)]
        grid = (torch.cat(columns, 1) * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(grid).save(self.work / f"samples-{self.state.step:08d}.png")
        if folder is not None:
            export(pipeline, self.work / "tokenizer", folder)


def train_denoiser(rank: int, rendezvous: Path, arguments: argparse.Namespace) -> None:
    """Train at a constant rate with a checkpoint and an export at every interval, then cool down to
    rate 0; only the last export has the cooled weights, so that a later sitting goes on from the
    warm ones.

    One of `arguments.processes` processes, which find each other by the file `rendezvous`.
    """
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=arguments.processes
    )
    training = DenoiserTraining(arguments.work_dir, arguments.init_from)
    cooldown = 60 * arguments.cooldown_minutes
    end = training.clock() + 3600 * arguments.hours - cooldown
    while (left := end - training.clock()) > 0:
        training.run(min(left, 60 * arguments.interval_minutes), lambda _: 1.0)
        training.save()
        training.publish(arguments.export)
    # The falling rate does the averaging; a long memory would only lag.
    training.state.restart_average()
    training.state.decay = 0.98
    training.run(cooldown, lambda share: 1 - share)
    training.publish(arguments.export)
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, required=True, help="checkpoints and data")
    parser.add_argument("--export", type=Path, help="folder of the exported model")
    parser.add_argument("--init-from", type=Path, help="exported model to start from")
    parser.add_argument("--images", type=int, default=61_440, help="size of the data set")
    parser.add_argument("--vae-minutes", type=float, default=15.0)
    parser.add_argument("--decoder-minutes", type=float, default=0.0, help="decoder alone, after")
    parser.add_argument("--hours", type=float, default=8.0, help="time for the unet stage")
    parser.add_argument("--interval-minutes", type=float, default=15.0, help="between exports")
    parser.add_argument("--cooldown-minutes", type=float, default=15.0, help="part of --hours")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="CPU cores to use")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.processes)
    work: Path = arguments.work_dir
    init_from: Path | None = arguments.init_from
    work.mkdir(parents=True, exist_ok=True)
    if init_from is not None and not (work / "vae.safetensors").exists():
        save_vae(
            AutoencoderTiny.from_pretrained(init_from, subfolder="vae"), work / "vae.safetensors"
        )
        shutil.copytree(init_from / "tokenizer", work / "tokenizer")
    with torch.inference_mode():
        make_images(work / "images", arguments.images)
    trained = train_vae(work, 60 * arguments.vae_minutes)
    if arguments.decoder_minutes:
        tune_decoder(work, 60 * arguments.decoder_minutes)
    vae = load_vae(trained)
    if not (work / "tokenizer").exists():
        make_tokenizer(work / "tokenizer", (text for row in range(5000) for text in captions(row)))
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    make_latents(work, vae, tokenizer, arguments.images)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            train_denoiser, (Path(folder, "rendezvous"), arguments), arguments.processes
        )


if __name__ == "__main__":
    main()
