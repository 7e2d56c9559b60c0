"""Textual inversions (Gal et al. 2022, arXiv 2208.01618): new words for prompts, from files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.options.paths import expanded

_FOLDERS_FILE = "learned_embeds.safetensors"
_NAMELESS = ("emb_params", "clip_l", "clip_g", "clip-l", "clip-g", "*")
"""Tensor names that are not the word; the word is then the file's name, as in other tools."""
_SECOND = ("clip_g", "clip-g")
"""The names among them for SDXL's second text encoder."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A word for prompts. vectors: (n, channels), for each of one or two text encoders."""

    path: Path
    word: str
    vectors: tuple[Tensor, ...]


def add_embedding(pipeline: Any, path_and_word: str | Path) -> str:
    """Add a file's word to the tokenizers and text encoders of a diffusers pipeline; return it.

    path_and_word: the path, optionally with another word: "cat-toy.safetensors:<toy>". Raise
    InputError if the file does not fit the model, or the model has the word already.
    """
    embedding = read_embedding(*find_embedding(path_and_word))
    encoders = [(pipeline.tokenizer, pipeline.text_encoder)]
    if getattr(pipeline, "text_encoder_2", None) is not None:
        encoders.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
    if len(embedding.vectors) != len(encoders):
        kinds = {1: "Stable Diffusion 1.x or 2.x", 2: "SDXL"}
        raise InputError(
            f"{embedding.path} is not an embedding for this model: it is for "
            f"{kinds[len(embedding.vectors)]}, and the model is {kinds[len(encoders)]}"
        )
    for vectors, (tokenizer, encoder) in zip(embedding.vectors, encoders, strict=True):
        width = encoder.get_input_embeddings().weight.shape[1]
        if vectors.shape[1] != width:
            raise InputError(
                f"{embedding.path} is not an embedding for this model: it has "
                f"{vectors.shape[1]} channels and the text encoder {width}"
            )
        if embedding.word in tokenizer.get_vocab():
            raise InputError(
                f"the model already has the word {embedding.word!r} of {embedding.path}; give "
                f"another word, such as {embedding.path}:<{embedding.word}>"
            )
    # Change nothing before both are checked.
    for vectors, (tokenizer, encoder) in zip(embedding.vectors, encoders, strict=True):
        pipeline.load_textual_inversion(
            {embedding.word: vectors}, tokenizer=tokenizer, text_encoder=encoder
        )
    return embedding.word


def find_embedding(path_and_word: str | Path) -> tuple[Path, str]:
    """Return the file and the word of "FILE:WORD", or '' for no word. InputError without a file."""
    path, word = expanded(path_and_word), ""
    if not path.exists():
        head, _, tail = str(path_and_word).rpartition(":")
        if head and tail.strip() and expanded(head).exists():
            path, word = expanded(head), tail.strip()
    if path.is_dir():
        path = path / _FOLDERS_FILE
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no embedding {path}; give a .safetensors file")
    return path, word


def read_embedding(path: Path, word: str = "") -> Embedding:
    """Read an embedding in diffusers' format (the word names the tensor), other tools' or SDXL's.

    Raise InputError if it is not an embedding.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not an embedding: {error}") from None
    names = sorted(tensors, key=lambda name: name in _SECOND)
    has_two_parts = len(names) == 2 and names[0] in _NAMELESS and names[1] in _SECOND
    if not (len(names) == 1 or has_two_parts):
        raise InputError(
            f"{path} is not an embedding: it holds {len(names)} tensors instead of one for each "
            "text encoder (give a LoRA with --lora)"
        )
    vectors = [tensors[name] for name in names]
    for tensor in vectors:
        if tensor.ndim not in (1, 2) or not tensor.numel() or not tensor.is_floating_point():
            raise InputError(
                f"{path} is not an embedding: its {names[0]} has the shape {tuple(tensor.shape)}"
            )
    stored_word = path.stem if names[0] in _NAMELESS else names[0]
    return Embedding(
        path=path,
        # Tokenizers convert texts to lower case, and would not find a word with capitals.
        word=(word or stored_word).lower(),
        vectors=tuple(tensor[None] if tensor.ndim == 1 else tensor for tensor in vectors),
    )
