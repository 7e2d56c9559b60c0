"""The stage `unet` of the embedded model's training: UNet and text encoder on pairs of pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer

from tools.train.artwork import Artwork
from tools.train.examples import HELD_OUT, Pairs, scaled, tokenize
from tools.train.model import Denoiser, new_scheduler
from tools.train.state import TrainingState, autocast, checkpoints
from tools.train.supervise import SupervisedDenoiser

CHUNK = 1536  # pairs that are drawn and encoded at once, and then trained on
PASSES = 8  # over the pairs of a chunk, each with other noise
LEARNING_RATE = 3e-4
AVERAGE_DECAY = 0.996
NOISY = 600  # a quarter of the targets have timesteps from here on
UNCAPTIONED = 0.12  # share of captions left out, for classifier-free guidance
UNCAPTIONED_SOURCE = 0.5  # if features are injected; in sampling the source has no prompt
SUPERVISION = 0.02  # weight of the heads' loss beside the v-prediction loss
INJECTED = 0.85  # share of the pairs whose target gets the source's features
CLEARER = 0.75  # share of the injected pairs whose source is less noisy than its target
CLEAR = (60, 450)  # timesteps of such a source: with strong noise it would not show the layout
ON_OBJECTS = 2.0  # weight of an object's pixels in the loss
OF_TARGETS = 3.0  # weight of a target's loss, relative to a source's
STRAYED = 1.4  # times 1 - alpha: largest share of the source, or of any picture, in such a target
YARDSTICK = 256  # held-out pairs
YARDSTICK_LEVELS = (100, 250, 400, 550, 700, 850, 950, 999)  # timesteps of their targets


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The random choices of a step with B pairs of sources and targets.

    timesteps, left_out: (B, 2), the levels of noise and whether captions are left out.
    injected: (B, 2), whether a target gets its source's features, and its queries and keys.
    noise: (B, 2, C, h, w). wrong: (B,) in [0, 1], the share of another picture in a noisy target;
    stays: (B,), whether that picture is the source.
    """

    timesteps: Tensor
    left_out: Tensor
    injected: Tensor
    noise: Tensor
    wrong: Tensor
    stays: Tensor


def draw_conditions(shape: Sequence[int], alphas: Tensor, draw: Generator) -> Conditions:
    """Draw the conditions of a batch of latents, shape (B, 2, C, h, w)."""
    pairs = shape[0]

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=draw)

    # Attention is injected in a part of the steps in which features are.
    injected = uniform(pairs, 1) < torch.tensor([INJECTED, 0.85 * INJECTED])
    uncaptioned = torch.full((pairs, 2), UNCAPTIONED)
    uncaptioned[injected[:, 0], 0] = UNCAPTIONED_SOURCE
    left_out = uniform(pairs, 2) < uncaptioned
    target = torch.randint(1000, (pairs,), generator=draw)
    # The text matters most when the noise is strong.
    target[::4] = torch.randint(NOISY, 1000, target[::4].shape, generator=draw)
    clearer = (uniform(pairs) < CLEARER) & injected[:, 0]
    clear = torch.randint(*CLEAR, (pairs,), generator=draw).minimum(target)
    noise = torch.randn(*shape, generator=draw)
    fresh = uniform(pairs, 1, 1, 1)
    noise[:, 1] = (1 - fresh).sqrt() * noise[:, 0] + fresh.sqrt() * noise[:, 1]
    # In sampling, earlier steps may be wrong, and the source's features must correct them; or the
    # picture still looks like the source, from whose inverted noise it starts.
    wrong = uniform(pairs) * (STRAYED * (1 - alphas[target])).clamp(max=1) * injected[:, 0]
    return Conditions(
        timesteps=torch.stack((torch.where(clearer, clear, target), target), 1),
        left_out=left_out,
        injected=injected,
        noise=noise,
        wrong=wrong,
        stays=uniform(pairs) < 0.7,
    )


def yardstick_conditions(shape: Sequence[int], alphas: Tensor) -> Conditions:
    """Return the conditions of the held-out pairs, the same at each call.

    All are injected from clear sources without a caption, with the targets' levels in turn.
    """
    conditions = draw_conditions(shape, alphas, Generator().manual_seed(0))
    pairs = shape[0]
    target = torch.tensor(YARDSTICK_LEVELS).repeat(pairs)[:pairs]
    source = target.clamp(max=sum(CLEAR) // 2)
    return replace(
        conditions,
        timesteps=torch.stack((source, target), 1),
        left_out=torch.tensor([True, False]).expand(pairs, 2),
        injected=torch.ones(pairs, 2, dtype=torch.bool),
        wrong=torch.zeros(pairs),
    )


class DenoiserTraining:
    """The training of the denoiser, from the latest checkpoint in `work` or from scratch."""

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
        self.model = SupervisedDenoiser(
            init_from or Denoiser(tokenizer), len(artwork.names(held_out=False))
        ).to(device)
        self.model.denoiser.unet.to(memory_format=torch.channels_last)
        self.state = TrainingState(
            self.model,
            learning_rate=LEARNING_RATE,
            warmup=50,
            decay=AVERAGE_DECAY,
            hidden=self.model.denoiser.hidden_weights(),
        )
        self.state.images, self.state.step = init_images, init_images // (2 * pairs)
        self.state.began = self.state.step
        for path in checkpoints(work, "unet")[-1:]:
            self.state.load(path)
            print(f"unet: resumed from {path.name}", flush=True)
        self.chunk: dict[str, Tensor] = {}
        self.chunk_number = -1
        self.loader = ThreadPoolExecutor(1)
        self.coming: dict[int, Future[dict[str, Tensor]]] = {}
        self.held_out: dict[str, Tensor] | None = None

    def _load_chunk(self, number: int) -> dict[str, Tensor]:
        return self._draw_pairs(number * CHUNK, CHUNK)

    @torch.inference_mode()
    def _draw_pairs(self, start: int, count: int) -> dict[str, Tensor]:
        """Draw pairs and encode their pictures."""
        pairs = Pairs(self.artwork, self.tokenizer, start=start, count=count)
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
        """Return the pairs of the current step, which depend only on its number."""
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
        """Return v-prediction loss (Salimans and Ho 2022), weighted loss and heads' loss."""
        batch = self._batch()
        draw = Generator().manual_seed(self.state.step)
        conditions = draw_conditions(batch["latents"].shape, self.alphas, draw)
        errors, heads = self._errors(self.model, batch, conditions)
        return errors.mean(), weighted_mean(errors, batch["cover"].to(self.device)), heads

    def _errors(
        self, model: SupervisedDenoiser, batch: dict[str, Tensor], conditions: Conditions
    ) -> tuple[Tensor, Tensor]:
        """Return the squared errors of v, (B, 2, h, w), and the heads' loss."""
        left_out = conditions.left_out
        tokens = torch.where(left_out[..., None], self.nothing, batch["tokens"])
        truth = {
            name: value.to(self.device).flatten(0, 1)
            for name, value in batch.items()
            if name not in ("latents", "tokens", "words")
        }
        truth["words"] = (batch["words"] & ~left_out[..., None, None]).to(self.device).flatten(0, 1)
        noise, wrong, stays, injected, timesteps, tokens, clean = (
            value.to(self.device)
            for value in (
                conditions.noise,
                conditions.wrong.view(-1, 1, 1, 1),
                conditions.stays.view(-1, 1, 1, 1),
                conditions.injected,
                conditions.timesteps,
                tokens,
                batch["latents"],
            )
        )
        shown = clean.clone()
        stray = torch.where(stays, clean[:, 0], clean[:, 1].roll(1, 0))
        shown[:, 1] += wrong * (stray - clean[:, 1])
        alpha = self.alphas.to(self.device)[timesteps].view(-1, 2, 1, 1, 1)
        noisy = alpha.sqrt() * shown + (1 - alpha).sqrt() * noise
        target = (alpha.sqrt() * noisy - clean) / (1 - alpha).sqrt()
        with autocast(self.device):
            predicted, heads = model(
                noisy.flatten(0, 1), timesteps.flatten(), tokens.flatten(0, 1), injected, truth
            )
        return (predicted.float().view_as(target) - target).square().mean(2), heads

    @torch.no_grad()
    def yardstick(self) -> dict[int, float]:
        """Return the averaged weights' loss on targets of held-out pairs, by level of noise.

        Pairs, noise and levels are the same at each call, so that two checkpoints can be compared.
        """
        if self.held_out is None:
            self.held_out = self._draw_pairs(HELD_OUT, YARDSTICK)
        model = self.averaged().to(self.device)
        conditions = yardstick_conditions(self.held_out["latents"].shape, self.alphas)
        losses: dict[int, list[Tensor]] = {level: [] for level in YARDSTICK_LEVELS}
        for start in range(0, YARDSTICK, 16):
            rows = slice(start, start + 16)
            part = Conditions(**{name: value[rows] for name, value in vars(conditions).items()})
            batch = {name: value[rows] for name, value in self.held_out.items()}
            errors, _ = self._errors(model, batch, part)
            cover = batch["cover"].to(self.device)
            for row, level in enumerate(part.timesteps[:, 1].tolist()):
                one = slice(row, row + 1)
                losses[level].append(weighted_mean(errors[one, 1:], cover[one, 1:]))
        return {level: float(torch.stack(values).mean()) for level, values in losses.items()}

    def report_yardstick(self) -> None:
        losses = self.yardstick()
        mean = sum(losses.values()) / len(losses)
        levels = ", ".join(f"{level}: {loss:.4f}" for level, loss in losses.items())
        print(f"held out: images {self.state.images}, loss {mean:.4f} ({levels})", flush=True)

    def run(self, seconds: float, *, cooling: bool = False) -> None:
        """Train for `seconds`; with `cooling`, the learning rate falls to 0 in this time."""
        start = last = time.perf_counter()
        self.state.model.train()
        losses: list[Tensor] = []
        while (elapsed := time.perf_counter() - start) < seconds:
            loss, weighted, heads = self._losses()
            total = weighted + SUPERVISION * heads
            self.state.update(total, factor=1 - elapsed / seconds if cooling else 1.0)
            self.state.images += 2 * self.pairs
            losses.append(torch.stack((loss, heads)).detach())
            if len(losses) == 24:
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

    def averaged(self) -> SupervisedDenoiser:
        """Return a copy of the model with the averaged weights."""
        things = len(self.artwork.names(held_out=False))
        model = SupervisedDenoiser(Denoiser(self.tokenizer), things)
        self.state.load_average(model)
        return model.eval()


def weighted_mean(errors: Tensor, cover: Tensor) -> Tensor:
    """Return the weighted mean of errors (B, 2, h, w) of pairs, or (B, 1, h, w) of targets.

    cover: in [0, 1], shaped as the errors, 1 on objects. These are the hardest to learn; and only
    the features of a source matter, while a target is drawn.
    """
    of_roles = cover.new_tensor([1.0, OF_TARGETS])[-cover.shape[1] :].view(-1, 1, 1)
    weights = (1 + ON_OBJECTS * cover) * of_roles
    return (weights * errors).sum() / weights.sum()
