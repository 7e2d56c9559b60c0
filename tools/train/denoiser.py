"""The stage `unet` of the embedded model's training: UNet and text encoder on pairs of pictures."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer

from tools.train.artwork import Artwork
from tools.train.examples import Pairs, scaled, tokenize
from tools.train.model import Denoiser, new_scheduler
from tools.train.state import TrainingState, autocast, checkpoints
from tools.train.supervise import SupervisedDenoiser

CHUNK = 1536  # pairs that are drawn and encoded at once, and then trained on
PASSES = 4  # over the pairs of a chunk, each with other noise
LEARNING_RATE = 3e-4
AVERAGE_DECAY = 0.999
NOISY = 600  # half of a batch has timesteps from here on
UNCAPTIONED = 0.12  # share of captions left out, for classifier-free guidance
UNCAPTIONED_SOURCE = 0.5  # where features are injected; in sampling the source has no prompt
SUPERVISION = 0.02  # weight of the heads' loss beside the v-prediction loss
INJECTED = 0.75  # share of the pairs whose target gets the source's features
ON_OBJECTS = 2.0  # what a place counts more in the loss where it shows an object
OF_TARGETS = 3.0  # times what one in a source counts
STRAYED = 1.4  # times 1 - alpha: largest share of the source, or of any picture, in such a target


class DenoiserTraining:
    """Trains from the latest checkpoint in `work` on, or from nothing."""

    def __init__(
        self,
        work: Path,
        artwork: Artwork,
        vae: AutoencoderTiny,
        tokenizer: CLIPTokenizer,
        *,
        pairs: int,
        device: str,
        workers: int,
        init_from: Denoiser | None = None,
        init_images: int = 0,
    ):
        self.work, self.artwork, self.tokenizer = work, artwork, tokenizer
        self.device, self.workers, self.pairs = device, workers, pairs
        self.vae = vae.to(device, memory_format=torch.channels_last)
        self.nothing = tokenize(tokenizer, [""])[0]
        self.alphas = new_scheduler().alphas_cumprod
        torch.manual_seed(0)
        model = SupervisedDenoiser(
            init_from or Denoiser(tokenizer), len(artwork.names(held_out=False))
        )
        model.denoiser.unet.to(memory_format=torch.channels_last)
        self.state = TrainingState(
            model.to(device), learning_rate=LEARNING_RATE, warmup=200, decay=AVERAGE_DECAY
        )
        self.state.images, self.state.step = init_images, init_images // (2 * pairs)
        for path in checkpoints(work, "unet")[-1:]:
            self.state.load(path)
            print(f"unet: resumed from {path.name}", flush=True)
        self.chunk: dict[str, Tensor] = {}
        self.chunk_number = -1
        self.loader = ThreadPoolExecutor(1)
        self.coming: dict[int, Future[dict[str, Tensor]]] = {}

    @torch.inference_mode()
    def _load_chunk(self, number: int) -> dict[str, Tensor]:
        """Draw the pairs of a chunk and encode their pictures."""
        pairs = Pairs(self.artwork, self.tokenizer, start=number * CHUNK, count=CHUNK)
        parts: dict[str, list[Tensor]] = {}
        for batch in DataLoader(pairs, batch_size=16, num_workers=self.workers):
            pictures = scaled(batch.pop("pictures").to(self.device).flatten(0, 1))
            with autocast(self.device):
                latents = self.vae.encode(
                    pictures.contiguous(memory_format=torch.channels_last)
                ).latents
            latents = latents.float() * self.vae.config["scaling_factor"]
            batch["latents"] = latents.unflatten(0, (-1, 2))
            for name, value in batch.items():
                parts.setdefault(name, []).append(value)
        return {name: torch.cat(values) for name, values in parts.items()}

    def _batch(self) -> dict[str, Tensor]:
        """The pairs of the current step, which its number decides."""
        steps = CHUNK // self.pairs
        number, step = divmod(self.state.step, PASSES * steps)
        if number != self.chunk_number:
            ahead = self.coming.pop(number, None) or self.loader.submit(self._load_chunk, number)
            self.chunk, self.chunk_number = ahead.result(), number
            # The next one is made while this one is trained on.
            self.coming[number + 1] = self.loader.submit(self._load_chunk, number + 1)
        turn, place = divmod(step, steps)
        order = torch.randperm(CHUNK, generator=Generator().manual_seed(PASSES * number + turn))
        rows = order[place * self.pairs : (place + 1) * self.pairs]
        return {name: value[rows.to(value.device)] for name, value in self.chunk.items()}

    def _losses(self) -> tuple[Tensor, Tensor, Tensor]:
        """On the current batch: the v-prediction loss (Salimans and Ho 2022), the same as it is
        weighted, and the heads' loss.
        """
        batch = self._batch()
        draw = Generator().manual_seed(self.state.step)
        clean, tokens = batch.pop("latents"), batch.pop("tokens")
        pairs = len(clean)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=draw)

        # Attention is injected for a part of the steps in which features are.
        injected = uniform(pairs, 1) < torch.tensor([INJECTED, 0.85 * INJECTED])
        uncaptioned = torch.full((pairs, 2), UNCAPTIONED)
        uncaptioned[injected[:, 0], 0] = UNCAPTIONED_SOURCE
        left_out = uniform(pairs, 2) < uncaptioned
        tokens[left_out] = self.nothing
        batch["words"] = batch["words"] & ~left_out[..., None, None]
        timesteps = torch.randint(1000, (pairs, 1), generator=draw)
        # Where the noise is strong the text tells most.
        timesteps[::2] = torch.randint(NOISY, 1000, timesteps[::2].shape, generator=draw)
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=draw)
        fresh = uniform(pairs, 1, 1, 1)
        noise[:, 1] = (1 - fresh).sqrt() * noise[:, 0] + fresh.sqrt() * noise[:, 1]
        # What sampling has drawn so far may be wrong, and the source's features are to mend it; or
        # it still looks like the source, whose inverted noise it starts from.
        wrong = uniform(pairs, 1, 1, 1) * (STRAYED * (1 - alpha[:, 0])).clamp(max=1)
        wrong = wrong * injected[:, 0].view(-1, 1, 1, 1)
        stays = uniform(pairs, 1, 1, 1) < 0.7
        alpha, noise, wrong, stays, injected, timesteps, tokens = (
            value.to(self.device)
            for value in (alpha, noise, wrong, stays, injected, timesteps, tokens)
        )
        shown = clean.clone()
        stray = torch.where(stays, clean[:, 0], clean[:, 1].roll(1, 0))
        shown[:, 1] += wrong * (stray - clean[:, 1])
        noisy = alpha.sqrt() * shown + (1 - alpha).sqrt() * noise
        target = (alpha.sqrt() * noisy - clean) / (1 - alpha).sqrt()
        with autocast(self.device):
            predicted, heads = self.state.model(
                noisy.flatten(0, 1),
                timesteps.repeat(1, 2).flatten(),
                tokens.flatten(0, 1),
                injected,
                {name: value.to(self.device).flatten(0, 1) for name, value in batch.items()},
            )
        errors = (predicted.float().view_as(target) - target).square().mean(2)
        return errors.mean(), weighted_mean(errors, batch["cover"].to(self.device)), heads

    def run(self, seconds: float, *, cooling: bool = False) -> None:
        """Train for `seconds`; with `cooling`, the learning rate falls to 0 over them."""
        start = last = time.perf_counter()
        self.state.model.train()
        losses: list[Tensor] = []
        while (elapsed := time.perf_counter() - start) < seconds:
            loss, weighted, heads = self._losses()
            total = weighted + SUPERVISION * heads
            self.state.update(total, factor=1 - elapsed / seconds if cooling else 1.0)
            self.state.images += 2 * self.pairs
            losses.append(torch.stack((loss, heads)).detach())
            if len(losses) == 96:
                now = time.perf_counter()
                self.state.seconds += now - last
                means = torch.stack(losses).mean(0).tolist()
                print(
                    f"unet: step {self.state.step}, images {self.state.images}, "
                    f"loss {means[0]:.4f}, heads {means[1]:.3f}, "
                    f"{2 * self.pairs * len(losses) / (now - last):.1f} images/s",
                    flush=True,
                )
                losses, last = [], now

    def averaged(self) -> Denoiser:
        """A copy of the denoiser with the averaged weights."""
        things = len(self.artwork.names(held_out=False))
        model = SupervisedDenoiser(Denoiser(self.tokenizer), things)
        self.state.load_average(model)
        return model.denoiser.eval()


def weighted_mean(errors: Tensor, cover: Tensor) -> Tensor:
    """The mean of errors (pairs, 2, h, w) of sources and targets, weighted to what is hard.

    cover: (pairs, 2, h, w) in [0, 1], where there are objects. Most is left to learn there; and of
    a source only the features are wanted, while a target is drawn.
    """
    weights = (1 + ON_OBJECTS * cover) * cover.new_tensor([1.0, OF_TARGETS]).view(2, 1, 1)
    return (weights * errors).sum() / weights.sum()
