"""Train the embedded model from scratch and export it in the diffusers folder format.

    python -m tools.train.get_artwork WORK/artwork
    python -m tools.train.train --work-dir WORK --export pnpvideo/embedded

The stages, each resumed from the work folder, are `vae`, its `decoder` alone, and `unet` (with the
text encoder and heads that supervise both, see `supervise`). A step's examples depend only on its
number, so a resumed run continues as if it had not stopped. The autoencoder starts as the embedded
model's, so that its stage is needed only to improve it.

On a Linux CPU, another allocator (Debian's package libtcmalloc-minimal4, with LD_PRELOAD set to its
libtcmalloc_minimal.so.4) saves a fifth of the time: glibc returns the memory of every step.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import time
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

import pnpvideo
from tools.train.artwork import Artwork
from tools.train.autoencoder import load_vae, save_vae, train_vae
from tools.train.denoiser import DenoiserTraining
from tools.train.examples import make_pair
from tools.train.model import Denoiser, assemble, export, make_tokenizer
from tools.train.words import write_words

EMBEDDED = Path(pnpvideo.__file__).with_name("embedded")


def vocabulary(artwork: Artwork, *, pairs: int = 20_000) -> list[str]:
    """Return captions with every word of the world, including those of held-out things."""
    names = artwork.names()
    captions = [picture.caption for row in range(pairs) for picture in make_pair(row, names)]
    return [*captions, *names]


@torch.no_grad()
def load_exported(folder: Path, tokenizer: CLIPTokenizer) -> Denoiser:
    """Return the denoiser of an exported model, to continue training.

    Layers of another shape start with new weights; words in both tokenizers keep their embeddings.
    """
    denoiser = Denoiser(tokenizer)
    parts = (
        (denoiser.unet, UNet2DConditionModel.from_pretrained(folder, subfolder="unet")),
        (denoiser.text_encoder, CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")),
    )
    for part, exported in parts:
        own, given = part.state_dict(), exported.state_dict()
        fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
        part.load_state_dict(own | fitting)
    known = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer").get_vocab()
    words = {number: known[word] for word, number in tokenizer.get_vocab().items() if word in known}
    embeddings = denoiser.text_encoder.get_input_embeddings().weight
    exported_embeddings = parts[1][1].get_input_embeddings().weight
    embeddings[list(words)] = exported_embeddings[list(words.values())].to(embeddings.dtype)
    return denoiser


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, required=True, help="artwork and checkpoints")
    parser.add_argument("--export", type=Path, help="folder of the exported model")
    parser.add_argument(
        "--init-from", type=Path, help="exported model whose tokenizer and denoiser to start from"
    )
    parser.add_argument(
        "--init-images", type=int, default=0, help="number of images it has seen, which are skipped"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--vae-minutes", type=float, default=0.0, help="whole autoencoder")
    parser.add_argument("--decoder-minutes", type=float, default=0.0, help="decoder alone, after")
    parser.add_argument("--hours", type=float, default=8.0, help="time for the unet stage")
    parser.add_argument("--pairs", type=int, default=32, help="pairs of pictures in a batch")
    parser.add_argument("--interval-minutes", type=float, default=10.0, help="between checkpoints")
    parser.add_argument("--cooldown-minutes", type=float, default=15.0, help="part of --hours")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes that draw pictures"
    )
    arguments = parser.parse_args()
    work: Path = arguments.work_dir
    artwork = Artwork(work / "artwork")
    artwork.keep_layers(work / "layers.npy")
    if not (work / "tokenizer").exists():
        if arguments.init_from:
            shutil.copytree(arguments.init_from / "tokenizer", work / "tokenizer")
        else:
            make_tokenizer(work / "tokenizer", vocabulary(artwork))
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    device, workers = arguments.device, arguments.workers

    def train(stage: str, minutes: float) -> None:
        train_vae(work, stage, artwork, minutes=minutes, device=device, workers=workers)

    torch.set_flush_denormal(True)
    if not (work / "vae.safetensors").exists():
        save_vae(
            AutoencoderTiny.from_pretrained(EMBEDDED, subfolder="vae"), work / "vae.safetensors"
        )
    if arguments.vae_minutes:
        train("vae", arguments.vae_minutes)
    if arguments.decoder_minutes:
        train("decoder", arguments.decoder_minutes)
    vae = load_vae(work / "vae.safetensors")
    training = DenoiserTraining(
        work,
        artwork,
        copy.deepcopy(vae),
        tokenizer,
        pairs=arguments.pairs,
        device=device,
        workers=workers,
        init_from=load_exported(arguments.init_from, tokenizer) if arguments.init_from else None,
        init_images=arguments.init_images,
    )

    def publish() -> None:
        if arguments.export is not None:
            pipeline = assemble(copy.deepcopy(vae), training.averaged().denoiser, tokenizer)
            export(pipeline, work / "tokenizer", arguments.export)
            write_words(artwork, arguments.export)

    cooldown = 60 * arguments.cooldown_minutes
    end = time.perf_counter() + 3600 * arguments.hours - cooldown
    while (left := end - time.perf_counter()) > 0:
        training.run(min(left, 60 * arguments.interval_minutes))
        training.state.save(work, "unet")
        training.report_yardstick()
        publish()
    # The falling rate already averages; a long average would only lag. Only this last export has
    # the cooled weights, so that a later session continues from the others.
    training.state.restart_average()
    training.state.decay = 0.92
    training.run(cooldown, cooling=True)
    training.report_yardstick()
    publish()


if __name__ == "__main__":
    main()
