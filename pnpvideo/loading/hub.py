"""A model's files, on the hub or in a folder: found, fetched, and what is said if that fails."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import huggingface_hub
from safetensors import SafetensorError

from pnpvideo.errors import InputError, RunError

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_FILE = re.compile(
    r"(?:https?://)?(?:huggingface\.co|hf\.co)/(?P<repo_id>[^/]+/[^/]+)/(?:blob|resolve)/"
    r"(?P<revision>[^/]+)/(?P<filename>[^?#]+)(?:\?.*)?"
)
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token")
"""Of diffusers' options, those of the hub."""
# What diffusers, transformers and safetensors raise for files that are not what they should be.
UNUSABLE = (
    SafetensorError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_PREFERRED = ("fp16", "bf16")
"""Variants of weights, of which the first that is there is loaded."""


def local_checkpoint(checkpoint: str | Path, options: dict[str, Any]) -> Path:
    """The path of a checkpoint, loaded from the hub where it is a link to it.

    options: those of diffusers that say how. InputError where there is none.
    """
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path
    link = _HUB_FILE.fullmatch(str(checkpoint))
    if link is None:
        raise InputError(
            f"there is no checkpoint {checkpoint}; give a .safetensors file or the hub's link to "
            "one, such as https://huggingface.co/owner/name/blob/main/model.safetensors"
        )
    known = {k: v for k, v in reach_hub(options).items() if k in HUB_OPTIONS}
    try:
        return Path(huggingface_hub.hf_hub_download(**{**link.groupdict(), **known}))
    except UNUSABLE as error:
        if known.get("local_files_only"):
            raise unreachable(str(checkpoint), "give a file") from None
        raise InputError(f"{checkpoint} cannot be loaded: {one_line(error)}") from None


def files_of(name: str, on_hub: dict[str, Any]) -> list[str]:
    """All paths within a model: of its folder, or on the hub, or of what is kept of that."""
    folder = Path(name)
    if not folder.is_dir():
        if not on_hub.get("local_files_only"):
            known = {k: v for k, v in on_hub.items() if k in ("revision", "token")}
            return huggingface_hub.list_repo_files(name, **known)
        # A whole snapshot is seldom there: of some files only one form was fetched.
        known = {k: v for k, v in on_hub.items() if k in ("revision", "cache_dir")}
        kept = huggingface_hub.try_to_load_from_cache(name, "model_index.json", **known)
        folder = Path(str(kept)).parent
    return [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]


def reach_hub(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with local files only where the hub does not answer at the first knock.

    Its client would knock again and again for half a minute before it says so.
    """
    if options.get("local_files_only"):
        return options
    try:
        url = huggingface_hub.constants.ENDPOINT
        huggingface_hub.get_session().head(url, timeout=10)
    except Exception:  # Of one HTTP library or another, as its version has it.
        return {**options, "local_files_only": True}
    return options


def unreachable(what: str, remedy: str) -> RunError:
    """The error where the hub has to be asked for something and does not answer."""
    return RunError(f"the hub cannot be reached for {what}; connect to the network, or {remedy}")


def one_line(error: BaseException) -> str:
    """The first sentence of an error: what follows are hints for those who call the library."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    first = " ".join(text.split()).split(". ")[0].rstrip(".")
    return first[:300] or type(error).__name__


def variant_of(files: Iterable[str]) -> str | None:
    """The variant that most parts of a model have alone; None where they have plain weights.

    files: all paths within the model. "unet/diffusion_pytorch_model.fp16.safetensors" is the
    variant fp16 of the part unet, and so are its shards "...fp16-00001-of-00002.safetensors" or
    "...-00001-of-00002.fp16.safetensors".
    """
    variants: dict[str, set[str]] = {}
    for path in files:
        part, _, name = path.rpartition("/")
        if part and "/" not in part and name.endswith(".safetensors"):
            middle = _SHARD.sub("", name).removesuffix(".safetensors").partition(".")[2]
            variants.setdefault(part, set()).add(middle)
    found = Counter(name for names in variants.values() if "" not in names for name in names)
    order = {name: place for place, name in enumerate(_PREFERRED)}
    ranked = sorted(found, key=lambda name: (-found[name], order.get(name, len(order)), name))
    return ranked[0] if ranked else None
