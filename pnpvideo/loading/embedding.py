"""Textual inversions (Gal et al. 2022, arXiv 2208.01618): words of files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pnpvideo.errors import InputError

_FOLDERS_FILE = "learned_embeds.safetensors"
_NAMELESS = ("emb_params", "clip_l", "clip_g", "clip-l", "clip-g", "*")
"""Names of tensors that say nothing of the word: it is the file's name, as in other tools."""
_SECOND = ("clip_g", "clip-g")
"""Of those, the ones for SDXL's second text encoder."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A word that prompts may hold. vectors: (n, channels), for one text encoder or for two."""

    path: Path
    word: str
    vectors: tuple[Tensor, ...]


def add_embedding(stock: Any, given: str | Path) -> str:
    """Teach the tokenizers and text encoders of a diffusers pipeline a file's word, which returns.

    given: the path, perhaps with a word of one's own: "cat-toy.safetensors:<toy>". InputError
    where it cannot be.
    """
    own = read_embedding(*find_embedding(given))
    encoders = [(stock.tokenizer, stock.text_encoder)]
    if getattr(stock, "text_encoder_2", None) is not None:
        encoders.append((stock.tokenizer_2, stock.text_encoder_2))
    if len(own.vectors) != len(encoders):
        kinds = {1: "Stable Diffusion 1.x or 2.x", 2: "SDXL"}
        raise InputError(
            f"{own.path} is no embedding for this model: it is for {kinds[len(own.vectors)]}, and "
            f"the model is {kinds[len(encoders)]}"
        )
    for vectors, (tokenizer, encoder) in zip(own.vectors, encoders, strict=True):
        width = encoder.get_input_embeddings().weight.shape[1]
        if vectors.shape[1] != width:
            raise InputError(
                f"{own.path} is no embedding for this model: it has {vectors.shape[1]} channels "
                f"and the text encoder {width}"
            )
        if own.word in tokenizer.get_vocab():
            raise InputError(
                f"the model knows the word {own.word!r} of {own.path} already; give it another, "
                f"such as {own.path}:<{own.word}>"
            )
    # Both are checked before one is changed.
    for vectors, (tokenizer, encoder) in zip(own.vectors, encoders, strict=True):
        stock.load_textual_inversion({own.word: vectors}, tokenizer=tokenizer, text_encoder=encoder)
    return own.word


def find_embedding(given: str | Path) -> tuple[Path, str]:
    """The file and the word that are meant, '' for the file's own. InputError: no such file."""
    path, word = Path(given).expanduser(), ""
    if not path.exists():
        head, _, tail = str(given).rpartition(":")
        if head and tail.strip() and Path(head).expanduser().exists():
            path, word = Path(head).expanduser(), tail.strip()
    if path.is_dir():
        path = path / _FOLDERS_FILE
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no embedding {path}; give a .safetensors file")
    return path, word


def read_embedding(path: Path, word: str = "") -> Embedding:
    """Of diffusers' form (the word names the tensor), of other tools', or of SDXL's with two parts.

    InputError where it is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no embedding: {error}") from None
    names = sorted(tensors, key=lambda name: name in _SECOND)
    two = len(names) == 2 and names[0] in _NAMELESS and names[1] in _SECOND
    if not (len(names) == 1 or two):
        raise InputError(
            f"{path} is no embedding: it holds {len(names)} tensors, and not one for each text "
            "encoder (a LoRA is given with --lora)"
        )
    vectors = [tensors[name] for name in names]
    for one in vectors:
        if one.ndim not in (1, 2) or not one.numel() or not one.is_floating_point():
            raise InputError(
                f"{path} is no embedding: its {names[0]} is of shape {tuple(one.shape)}"
            )
    own = path.stem if names[0] in _NAMELESS else names[0]
    return Embedding(
        path=path,
        # Tokenizers read small letters, and would not find another word in what they have read.
        word=(word or own).lower(),
        vectors=tuple(one[None] if one.ndim == 1 else one for one in vectors),
    )
